"""Judges: language models that are asked about a conversation. Each is a backbone whose features are its grades.

The conversations' text leaves this process for the endpoint of the judge. The official SDK (the extra ``judge``) is
imported when a judge is made, not before.
"""

from offmap.judges.client import EndpointError, JudgeSource
from offmap.judges.judge import Judge, Tally
from offmap.judges.rubric import ALIGNMENT, CONSTITUTION, UNCERTAINTY, Rubric

__all__ = [
    "ALIGNMENT",
    "CONSTITUTION",
    "UNCERTAINTY",
    "EndpointError",
    "Judge",
    "JudgeSource",
    "Rubric",
    "Tally",
]
