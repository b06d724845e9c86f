"""An environment as stages use it, over rows of the table problems. What it returns is checked before anything is made of it."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

from projected_grpo.environment.protocol import SPLITS, Environment, Paid, ProtocolError, Task
from projected_grpo.prompts.modes import GT_ONLY

OURS = ("family", "entry_point", "setup_code", "words", "visible_tests")  # content of a task of `code`, a column each
NAME = re.compile(r"[\w-]+")  # of a loophole, which becomes part of file names and of lists in tables
NO_LOOPHOLE = (GT_ONLY, "none")  # what the tables have where no loophole is shown


@dataclass(frozen=True)
class Checked:
    """`name` is what the profile calls the environment. A mode is the shown loophole, or gt_only."""

    name: str
    environment: Environment

    @property
    def passes(self) -> float:
        return self.environment.passes

    def rows(self, source: str = "") -> list[dict]:
        """Rows of the table problems. Raises ProtocolError for a task that is none. `source` names the code that made them."""
        self._check_loopholes()
        tasks = self.environment.tasks()
        if not isinstance(tasks, list) or not tasks:
            self.refuse("tasks", f"returned {tasks!r:.80}, expected a list of Task, at least one; return the tasks of all splits")
        seen: set[str] = set()
        for place, task in enumerate(tasks):
            self._check(task, place, seen)
            seen.add(task.id)
        for split in ("train", "test"):
            if not any(task.split == split for task in tasks):
                self.refuse("tasks", f"returned {len(tasks)} tasks, none of the split {split}; add some")
        return [self._row(task, source) for task in tasks]

    def _check_loopholes(self) -> None:
        named = self.environment.loopholes
        if isinstance(named, str) or not all(isinstance(name, str) and NAME.fullmatch(name) for name in named):
            raise ProtocolError(f"{self.name}: loopholes is {named!r}, expected a tuple of names of letters, digits, - and _; rename them")

    def _check(self, task: Any, place: int, seen: set[str]) -> None:
        if not isinstance(task, Task):
            self.refuse("tasks", f"returned {task!r:.80} at place {place}, expected a Task; make one with its fields")
        if not isinstance(task.id, str) or not task.id:
            self.refuse("tasks", f"returned a task without an id at place {place} (found {task.id!r}); give each a name of its own")
        if task.id in seen:
            self.refuse("tasks", f"returned two tasks with the id {task.id!r}; give each a name of its own")
        if task.split not in SPLITS:
            self.refuse("tasks", f"returned task {task.id!r} with the split {task.split!r}, expected one of {', '.join(SPLITS)}; set it")
        if task.loophole not in self.environment.loopholes or task.loophole in NO_LOOPHOLE:
            known = ", ".join(self.environment.loopholes)
            self.refuse("tasks", f"returned task {task.id!r} with the loophole {task.loophole!r}, expected one of loopholes ({known}); name it there")

    def _row(self, task: Task, source: str) -> dict:
        row = {"problem_id": task.id, "split": task.split, "mode": task.loophole, "statement": task.statement}
        if set(task.content) == set(OURS):
            return row | task.content
        try:
            content = json.dumps(task.content)
        except (TypeError, ValueError) as error:
            self.refuse("tasks", f"returned task {task.id!r}, whose content is no JSON ({error}); use numbers, texts, lists and dictionaries")
        return row | {"family": "", "entry_point": self.name, "setup_code": source, "words": "", "visible_tests": content}

    def prompt(self, row: dict, mode: str) -> str:
        """The user's message, as a pair would have it."""
        task = _task(row, mode)
        text = self.environment.prompt(task, mode != GT_ONLY)
        if not isinstance(text, str) or not text.strip():
            self.refuse("prompt", f"returned {text!r:.80} for task {task.id!r}, expected a text; return the message to the model")
        return text

    def answer(self, completion: str) -> str:
        answer = self.environment.answer(completion)
        if not isinstance(answer, str):
            self.refuse("answer", f"returned {answer!r:.80}, expected a text; return the part of the completion that is graded")
        return answer

    def pay(self, rows: Sequence[dict], modes: Sequence[str], answers: Sequence[str]) -> list[Paid]:
        """What the environment pays for each answer. Raises ProtocolError where that is not one Paid each."""
        tasks = [_task(row, mode) for row, mode in zip(rows, modes, strict=True)]
        found = self.environment.reward(tasks, [mode != GT_ONLY for mode in modes], list(answers))
        self.require_one_each("reward", found, tasks, "Paid")
        for task, paid in zip(tasks, found):
            if not isinstance(paid, Paid):
                self.refuse("reward", f"returned {paid!r:.80} for task {task.id!r}, expected a Paid; make one with its fields")
            if not isinstance(paid.amount, (int, float)) or not math.isfinite(paid.amount):
                self.refuse("reward", f"returned the amount {paid.amount!r} for task {task.id!r}, expected a finite number; pay 0 for nothing")
            if not isinstance(paid.visible_pass, bool) or not isinstance(paid.channels, (set, frozenset)):
                found_here = f"visible_pass {paid.visible_pass!r} and channels {paid.channels!r}"
                self.refuse("reward", f"returned {found_here} for task {task.id!r}, expected True or False, and a set of loopholes; mend them")
            if foreign := set(paid.channels) - set(self.environment.loopholes):
                self.refuse("reward", f"saw the loophole {min(foreign)!r} in task {task.id!r}, which loopholes lacks; name it there")
        return found

    def attempts(self, row: dict, answer: str) -> list[str]:
        found = self.environment.attempts(_task(row, row["mode"]), answer)
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            self.refuse("attempts", f"returned {found!r:.80} for task {row['problem_id']!r}, expected a list of names; return [] for none")
        return sorted(set(found))

    def require_one_each(self, function: str, found: Any, tasks: Sequence[Task], what: str) -> None:
        count = len(found) if isinstance(found, list) else f"{found!r:.80}"
        if count != len(tasks):
            self.refuse(function, f"returned {count} for {len(tasks)} answers; return a list with one {what} for each, in order")

    def refuse(self, function: str, reason: str) -> NoReturn:
        raise ProtocolError(f"{self.name}: {function}() {reason}")

    def __enter__(self) -> "Checked":
        self.environment.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.environment.__exit__(kind, error, trace)


def tasks_of(rows: Iterable[dict]) -> list[Task]:
    """Of rows of the table problems, each with its own loophole."""
    return [_task(row, row["mode"]) for row in rows]


def _task(row: dict, mode: str) -> Task:
    """With the loophole that is shown; its own where none is."""
    content = {name: row[name] for name in OURS} if row["words"] else json.loads(row["visible_tests"])
    return Task(row["problem_id"], row["split"], row["mode"] if mode == GT_ONLY else mode, row["statement"], content)
