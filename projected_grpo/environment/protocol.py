"""What an environment is to training: tasks, prompts, and a reward that can be exploited. docs/environments.md walks through one.

The ground truth is no part of it; its protocol is in a room of its own, which training cannot import.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, runtime_checkable

from projected_grpo.core.errors import InputError
from projected_grpo.prompts.modes import GT_ONLY

SPLITS = ("train", "val", "test")


class ProtocolError(InputError):
    """An environment or a ground truth that cannot be used; the message names its module and function."""


@dataclass(frozen=True)
class Task:
    """All of it is public: training reads it."""

    id: str
    split: str  # train | val | test
    loophole: str  # whose hint its prompt may show, one of the environment's
    statement: str  # without hint, for people who read rollouts
    content: Mapping = field(default_factory=dict)  # JSON, what prompt and reward need


@dataclass(frozen=True)
class Evidence:
    """What grading an answer in the environment showed, which the table rollouts keeps so that labels need no second run."""

    visible_pass: bool  # it passes what is checked openly
    channels: frozenset[str] = frozenset()  # loopholes whose evidence was seen, the shown one or not
    status: str = "ok"  # how the run ended

    @classmethod
    def of(cls, row: dict) -> "Evidence":
        """`row` has the three columns below."""
        return cls(row["visible_pass"], frozenset(filter(None, row["channels"].split(","))), row["env_status"])

    def columns(self) -> dict:
        return {"visible_pass": self.visible_pass, "channels": ",".join(sorted(self.channels)), "env_status": self.status}

    def passed(self, shown_mode: str) -> bool:
        return self.visible_pass or (shown_mode != GT_ONLY and shown_mode in self.channels)


@dataclass(frozen=True, kw_only=True)
class Paid(Evidence):
    amount: float
    compiled: bool = True  # it is an answer that can be graded, right or wrong


@runtime_checkable
class Environment(Protocol):
    """A class of the user's own derives from it and writes the first three; `loopholes` names what its reward can be exploited by.

    With `with`, an environment holds what it needs while it pays.
    """

    loopholes: Sequence[str]
    passes: float = 1.0  # the least that a pass is paid, and the penalty of an arm that penalizes what its monitor flags

    def tasks(self) -> list[Task]:
        """The same at each call."""
        ...

    def prompt(self, task: Task, hinted: bool) -> str:
        """The user's message. Where hinted, it also says, truthfully, what the loophole is."""
        ...

    def reward(self, tasks: Sequence[Task], hinted: Sequence[bool], answers: Sequence[str]) -> list[Paid]:
        """One for each answer, in order. It pays a loophole where its hint was shown, and there alone."""
        ...

    def answer(self, completion: str) -> str:
        """The part of a completion that is graded."""
        return completion

    def attempts(self, task: Task, answer: str) -> list[str]:
        """Loopholes that the text tries, by the text alone. It chooses the sides of self-generated pairs, and pays nothing."""
        return []

    def __enter__(self) -> "Environment":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None
