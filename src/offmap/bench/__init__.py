"""The bench: how much does a monitor catch of what nobody trained it for, at a stated false-positive rate?"""

from offmap.bench.evaluation import evaluate
from offmap.bench.results import Report
from offmap.bench.run import Outcome, run
from offmap.bench.scores import MonitorScores, Run, Scores

__all__ = ["MonitorScores", "Outcome", "Report", "Run", "Scores", "evaluate", "run"]
