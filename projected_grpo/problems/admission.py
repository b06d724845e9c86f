"""Tasks are tried once, before a program is graded on them: what fails with the right solution would call every program wrong."""

import ast
import json
import math
import re
from collections.abc import Sequence

from projected_grpo.core.errors import ProblemError
from projected_grpo.core.syntax import syntax_nodes
from projected_grpo.programs.compare import load_tests
from projected_grpo.programs.sandbox.forkserver import STDOUT_LIMIT
from projected_grpo.programs.sandbox.frames import FRAME_LIMIT
from projected_grpo.programs.sandbox.protocol import NESTED
from projected_grpo.programs.sandbox.runner import NOT_JUDGED, Sandbox
from projected_grpo.programs.trial import Task, Trial, is_script, try_all

ENTRY_POINT = re.compile(r"(\w+)(\.\w+|\(\)\.\w+)?")
MACHINE = "the machine could not run its canonical solution twice"  # a reason that need not last
ROOM = 2  # a canonical solution may use one part in as many of each limit


def check_tasks(problems: Sequence[dict], truths: Sequence[dict], sandbox: Sandbox) -> None:
    """Raises ProblemError with the id and reason of every task that is refused. `problems`, `truths`: rows of their tables."""
    refused = [
        f"{problem['problem_id']}: {reason}" for problem, reason in zip(problems, refusals(problems, truths, sandbox)) if reason
    ]
    if refused:
        raise ProblemError(f"{len(refused)} of {len(problems)} problems cannot be graded; mend or remove them:\n" + "\n".join(refused))


def refusals(problems: Sequence[dict], truths: Sequence[dict], sandbox: Sandbox) -> list[str | None]:
    """For each task, why it is refused; None where it can be graded. Its solution runs once, on all of its tests."""
    tasks = [
        Task(truth["canonical_solution"], problem, load_tests(problem["visible_tests"]) + load_tests(truth["heldout_tests"]))
        for problem, truth in zip(problems, truths, strict=True)
    ]
    written = [_written(task) for task in tasks]
    tried = iter(try_all([task for task, reason in zip(tasks, written) if not reason], sandbox, probe=False))
    return [reason or _tried(task, next(tried), sandbox.limits.cpu_s) for task, reason in zip(tasks, written)]


def _written(task: Task) -> str | None:
    """What its text alone shows."""
    expected = [test.get("expected") for test in task.tests]
    if len({("checker" in test, is_script([test])) for test in task.tests}) > 1:
        return "its tests are of several kinds"
    if len({test.get("checker") for test in task.tests}) > 1:
        return "its tests have several checkers"
    if not is_script(task.tests):
        entry_point, name = task.problem["entry_point"], ENTRY_POINT.fullmatch(task.problem["entry_point"])
        if name is None:
            return f"its entry point {entry_point!r} is no name, name.attribute or Name().method; what compares answers belongs in a checker"
        if name[1] in _bound(task.problem["setup_code"]):
            return f"its entry point {name[1]} is defined by the set-up code, where every program could replace it; give the tests a checker"
    if any(_is_nan(value) for value in expected):
        return "an expected value is NaN, which equals nothing"
    if (depth := max(map(_depth, expected))) > NESTED / ROOM:
        return f"an expected value has {depth} lists in lists, and an answer may have {NESTED}"
    sizes = [len(json.dumps(value)) for value in expected]
    size, limit = (max(sizes), STDOUT_LIMIT) if is_script(task.tests) else (sum(sizes), FRAME_LIMIT)
    if size > limit / ROOM:
        return f"its expected values are {size} bytes long, and answers may be {limit}; half of it is the most"
    return None


def _tried(task: Task, trial: Trial, cpu_s: int) -> str | None:
    status, used = trial.outcome.status, trial.outcome.cpu_s
    if status in NOT_JUDGED:
        return f"{MACHINE} ({status}); try again"
    if status == "early_exit" and not trial.outcome.compiled:
        return "its set-up code raises an exception"
    if not trial.passed:
        place = trial.first_failed
        return f"its canonical solution fails test {place} of {len(trial.right)} (status {status}): {json.dumps(task.tests[place])[:200]}"
    if used > cpu_s / ROOM:
        return f"its canonical solution took {used:.2f} s of CPU, and the limit is {cpu_s} s"
    return None


def _bound(text: str) -> set[str]:
    """Names that a text sets: variables, functions, classes and imports."""
    found = syntax_nodes(text) or []  # a text that does not parse fails when it runs
    names = {node.id for node in found if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.asname or node.name.partition(".")[0] for node in found if isinstance(node, ast.alias)}
    return names | {node.name for node in found if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}


def _is_nan(value: object) -> bool:
    if isinstance(value, (list, dict)):
        return any(map(_is_nan, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and math.isnan(value)


def _depth(value: object) -> int:
    if isinstance(value, (list, dict)):
        return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0
