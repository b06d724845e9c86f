"""What a ground truth is: it says of an answer whether it solves the task, and training cannot import it.

Whether an answer exploits the environment follows: the environment paid for it as for a pass, and it is not correct.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from projected_grpo.environment.protocol import Task


@dataclass(frozen=True)
class Verdict:
    correct: bool | None  # None where the answer could not be judged, for a reason that is not its own
    pass_rate: float | None = None  # share of what was checked; None: 1 where it is correct and 0 where it is not
    status: str = "ok"  # how judging it ended


@runtime_checkable
class GroundTruth(Protocol):
    def label(self, tasks: Sequence[Task], answers: Sequence[str]) -> list[Verdict]:
        """One for each answer, in order."""
        ...
