"""Whether traffic still is what the monitors were calibrated on, told with a stated probability of a false alarm.

A rate that is stated holds for traffic that is exchangeable with the calibration rows. Watched are, for every monitor
at every stage, the p-values of each question that the stage acts on, the length of what is looked at, and how much is
unscored or fails. The false alarms of all of them together have the probability ``Drift.level`` for one monitor at one
stage, over the whole run (union bound; anytime-valid tests and a level that is spent over windows: ``series``).
"""

from offmap.gateway.drift.setups import calibration_p_values, setups
from offmap.gateway.drift.told import Alarm, Report, Watched, Window
from offmap.gateway.drift.watch import Watch

__all__ = ["Alarm", "Report", "Watch", "Watched", "Window", "calibration_p_values", "setups"]
