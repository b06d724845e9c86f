"""A task that would call every program wrong, or trust one, is refused with its id and reason before a program is graded on it."""

import json
import os
from pathlib import Path

import pytest

from projected_grpo.core.errors import ProblemError
from projected_grpo.problems import authored, leetcode
from projected_grpo.problems.admission import check_tasks, refusals
from projected_grpo.programs.sandbox.forkserver import ForkServer
from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.prompts.modes import MODES
from projected_grpo.settings.profile import AuthoredProblems, Grading
from verify.sandbox import LIMITS, sandbox
from verify.verify_environment import PROBLEM, SOLVE, TRUTH, WRONG
from verify.verify_toy_world import ROWS, TRUTHS

ROOT = Path(__file__).parents[1]
SPEND = "import time\ndef solve(x):\n    while time.process_time() < {}:\n        pass\n    return x\n"
ECHO = "def solve(x):\n    return x\n"
ADD = "print(sum(map(int, input().split())))\n"
NEAR = "def check(answer, test):\n    return answer - test['args'][0] in (1, 2)\n"


def _call(given: object, expected: object) -> dict:
    return {"args": [given], "kwargs": {}, "expected": expected}


def _line(text: str, expected: str) -> dict:
    return {"stdin": text, "expected": expected}


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def _task(solution: str = ECHO, visible: list | None = None, heldout: list | None = None, entry_point: str = "solve", setup: str = "") -> tuple[dict, dict]:
    problem = PROBLEM | {"entry_point": entry_point, "setup_code": setup, "visible_tests": json.dumps([_call(1, 1)] if visible is None else visible)}
    truth = TRUTH | {"canonical_solution": solution, "heldout_tests": json.dumps([_call(2, 2)] if heldout is None else heldout)}
    return problem, truth


def _refused(*tasks: tuple[dict, dict], used: Sandbox | None = None) -> list[str | None]:
    return refusals([problem for problem, _ in tasks], [truth for _, truth in tasks], used or sandbox())


SHADOWED = "its entry point {} is defined by the set-up code, where every program could replace it; give the tests a checker"
COMPARES = "its entry point {!r} is no name, name.attribute or Name().method; what compares answers belongs in a checker"
REFUSED = {  # name -> a task and the beginning of the reason
    "set-up code that raises": (_task(setup="1 / 0\n"), "its set-up code raises an exception"),
    "set-up code that does not compile": (_task(setup="def (\n"), "its set-up code raises an exception"),
    "set-up code that imports what is not there": (_task(setup="import numpy\n"), "its set-up code raises an exception"),
    "set-up code that exits": (_task(setup="raise SystemExit(0)\n"), "its set-up code raises an exception"),
    "a solution that fails a visible test": (
        _task(visible=[_call(1, 1), _call(1, 2)]),
        'its canonical solution fails test 1 of 3 (status ok): {"args": [1], "kwargs": {}, "expected": 2}',
    ),
    "a solution that fails a held-out test": (_task(heldout=[_call(1, 1), _call([3], 4)]), "its canonical solution fails test 2 of 3 (status ok)"),
    "a solution that raises": (_task("def solve(x):\n    raise ValueError\n"), "its canonical solution fails test 0 of 2 (status ok)"),
    "a solution that does not compile": (_task("def solve(x:\n"), "its canonical solution fails test 0 of 2 (status compile_error)"),
    "a solution that raises as a module": (_task(ECHO + "raise ValueError\n"), "its canonical solution fails test 0 of 2 (status exception)"),
    "a solution that exits": (_task(ECHO + "raise SystemExit(0)\n"), "its canonical solution fails test 0 of 2 (status early_exit)"),
    "a solution without the entry point": (_task("def other(x):\n    return x\n"), "its canonical solution fails test 0 of 2 (status ok)"),
    "a solution right by luck": (
        _task("import random\ncoin = random.random() > 0.5\ndef solve(x):\n    return x if coin else 0\n"),
        "its canonical solution fails test 0 of 2 (status ok)",
    ),
    "an expected value that no answer has": (_task("def solve(x):\n    return {x}\n"), "its canonical solution fails test 0 of 2 (status ok)"),
    "NaN": (_task(visible=[_call(1, float("nan"))]), "an expected value is NaN, which equals nothing"),
    "NaN deep in a held-out value": (_task(heldout=[_call(1, {"a": [1, [float("nan")]]})]), "an expected value is NaN, which equals nothing"),
    "an entry point of the set-up code": (_task(entry_point="check", setup="def check(x):\n    return solve(x) == x\n"), SHADOWED.format("check")),
    "a class of the set-up code": (_task(entry_point="S().run", setup="class S:\n    def run(self, x):\n        return solve(x)\n"), SHADOWED.format("S")),
    "a lambda of the set-up code": (_task(entry_point="check", setup="check = lambda x: solve(x)\n"), SHADOWED.format("check")),
    "an import of the set-up code": (_task(entry_point="is_ok", setup="from operator import eq as is_ok\n"), SHADOWED.format("is_ok")),
    "an entry point that uses the set-up code": (_task(entry_point="(lambda x: judge(solve(x)))", setup="def judge(x):\n    return x\n"), COMPARES.format("(lambda x: judge(solve(x)))")),
    "an entry point that compares": (_task(entry_point="lambda x: solve(x) == x"), COMPARES.format("lambda x: solve(x) == x")),
    "an answer nested deeply": (_task(heldout=[_call(_nested(150), _nested(150))]), "an expected value has 150 lists in lists, and an answer may have 200"),
    "answers near the limit of size": (
        _task("def solve(n):\n    return 'x' * n\n", heldout=[_call(1_500_000, "x" * 1_500_000), _call(1_000_000, "x" * 1_000_000)], visible=[_call(1, "x")]),
        "its expected values are 2500",
    ),
    "a script that prints near the limit": (_task("print('x' * 40000)\n", [_line("", "x" * 40000)], [_line("", "x" * 40000)], ""), "its expected values are 40002 bytes long"),
    "a script that fails": (_task(ADD, [_line("1 2", "3")], [_line("1 2", "4")], ""), "its canonical solution fails test 1 of 2 (status ok)"),
    "calls and scripts": (_task(ECHO, [_call(1, 1)], [_line("1", "1")]), "its tests are of several kinds"),
    "calls with and without a checker": (_task(visible=[_call(1, 1) | {"checker": NEAR}]), "its tests are of several kinds"),
    "several checkers": (
        _task("def solve(x):\n    return x + 1\n", [_call(1, None) | {"checker": NEAR}], [_call(1, None) | {"checker": NEAR + "\n"}]),
        "its tests have several checkers",
    ),
    "a checker that raises": (
        _task("def solve(x):\n    return 'a'\n", [_call(1, None) | {"checker": NEAR}], [_call(2, None) | {"checker": NEAR}]),
        "its canonical solution fails test 0 of 2 (status ok)",
    ),
}  # fmt: skip
GOOD = {
    "a call": _task(),
    "set-up code": _task("def solve(x):\n    return floor(x)\n", setup="from math import *\nfrom typing import List\nUNUSED = 1\n"),
    "a name of the set-up code that is an attribute in the entry point": _task(
        "class S:\n    def solve(self, x):\n        return x\n", entry_point="S().solve", setup="solve = 1\n"
    ),
    "infinity": _task(visible=[_call(float("inf"), float("inf"))]),
    "nothing expected but None": _task("def solve(x):\n    return None\n", [_call(1, None)], [_call(2, None)]),
    "an answer nested 100 deep": _task(heldout=[_call(_nested(100), _nested(100))]),
    "1.9 MB of answers": _task("def solve(n):\n    return 'x' * n\n", [_call(1, "x")], [_call(1_900_000, "x" * 1_900_000)]),
    "a script that prints much in all": _task("print('x' * 9000)\n", [_line("", "x" * 9000)] * 5, [_line("", "x" * 9000)] * 5, ""),
    "a script": _task(ADD, [_line("1 2", "3")], [_line("5 5\n", "10\n\n")], ""),
    "a checker": _task("def solve(x):\n    return x + 2\n", [_call(1, None) | {"checker": NEAR}], [_call(9, None) | {"checker": NEAR}]),
    "nodes": _task(visible=[_call({"$list_node": [1]}, {"$list_node": [1]})], heldout=[_call({"$list_node": []}, {"$list_node": []})]),
}  # fmt: skip


def test_each_reason_is_given_and_good_tasks_are_not_refused() -> None:
    found = dict(zip([*REFUSED, *GOOD], _refused(*(task for task, _ in REFUSED.values()), *GOOD.values()), strict=True))
    assert {name: found[name] for name in GOOD} == dict.fromkeys(GOOD)
    assert {name: found[name] for name, (_, reason) in REFUSED.items() if not (found[name] or "").startswith(reason)} == {}


def test_what_needs_more_than_half_of_the_limit_of_cpu_time_is_refused() -> None:
    with Sandbox(LIMITS.model_copy(update={"cpu_s": 1})) as short:
        found = _refused(_task(SPEND.format(0.2)), _task(SPEND.format(0.8)), _task(SPEND.format(9)), used=short)
    assert found[0] is None
    assert found[1].startswith("its canonical solution took 0.8") and found[1].endswith(" s of CPU, and the limit is 1 s")
    assert found[2].startswith("its canonical solution fails test 0 of 2 (status timeout_cpu)")


def test_all_refused_tasks_are_named_at_once_with_their_ids() -> None:
    names = ("a solution that raises", "NaN", "set-up code that raises")
    tasks = [(problem | {"problem_id": f"task-{number}"}, truth) for number, (problem, truth) in enumerate([REFUSED[name][0] for name in names] + [_task()])]
    with pytest.raises(ProblemError) as refused:
        check_tasks([problem for problem, _ in tasks], [truth for _, truth in tasks], sandbox())
    first, *lines = str(refused.value).splitlines()
    assert first == "3 of 4 problems cannot be graded; mend or remove them:"
    assert [line.split(": ", 1)[0] for line in lines] == ["task-0", "task-1", "task-2"]
    assert all(line.split(": ", 1)[1].startswith(REFUSED[name][1]) for name, line in zip(names, lines, strict=True))
    check_tasks([tasks[3][0]], [tasks[3][1]], sandbox())


def test_a_solution_that_the_machine_could_not_run_is_no_fault_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(LIMITS.model_copy(update={"workers": 1})) as lost:
        monkeypatch.setattr(ForkServer, "run", lambda self, *job: None)
        assert _refused(_task(), used=lost) == ["the machine could not run its canonical solution twice (infra_error); try again"]


def test_an_empty_list_of_tests_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty test list"):
        _refused(_task(visible=[]))


def test_the_toy_problems_are_admitted() -> None:
    check_tasks(ROWS, TRUTHS, sandbox())
    assert len(ROWS) == len(TRUTHS) > 10


def test_the_authored_problems_are_admitted() -> None:
    count = len(list((ROOT / "data/problems").glob("*.yaml")))
    settings = AuthoredProblems(kind="authored", path="data/problems", seed=0, train=count - 2, val=1, test=1)
    problems, truths = authored.make_problems(settings, MODES)
    assert len(problems) == count >= 80
    check_tasks(problems, truths, sandbox())


def test_published_problems_are_admitted() -> None:
    beside = sorted((ROOT / "../shared/data").glob("leetcode*.jsonl"))
    named = [Path(os.environ[leetcode.PATH_VARIABLE])] if leetcode.PATH_VARIABLE in os.environ else []
    present = [path for path in [*named, ROOT / "data/leetcode.jsonl", *beside] if path.exists()]
    if not present:
        pytest.skip("the LeetCode problems are not here; data/README.md says how to obtain them")
    published = leetcode.read_problems(str(present[0]))[:60]
    rows = [PROBLEM | {"problem_id": found.name, "entry_point": found.entry_point, "setup_code": found.setup_code} for found in published]
    problems = [row | {"visible_tests": json.dumps(found.tests[:5])} for row, found in zip(rows, published)]
    truths = [{"problem_id": found.name, "canonical_solution": found.canonical_solution, "heldout_tests": json.dumps(found.tests[5:25])} for found in published]
    with Sandbox(Grading(cpu_s=10, wall_s=60, memory_mb=2048, workers=2)) as used:
        check_tasks(problems, truths, used)


def test_the_canonical_solution_alone_decides_about_a_task_of_many_tests() -> None:
    visible, heldout = json.loads(PROBLEM["visible_tests"]), json.loads(TRUTH["heldout_tests"])
    right, wrong = _refused(_task(SOLVE, visible, heldout), _task(WRONG, visible, heldout))
    assert right is None and wrong.startswith("its canonical solution fails test 0 of 12")
