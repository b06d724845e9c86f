"""No attack of the catalogue makes a wrong program correct, no harmless twin is refused, and nothing of either remains.

The environment pays for no attack under gt_only, apart from two that solve the visible tests, which are all it looks at."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from projected_grpo.environment.grader import Grade, grade
from projected_grpo.ground_truth.own_tests import OwnTests, examine
from projected_grpo.ground_truth.verdicts import Verdict, verdicts_of
from projected_grpo.programs.compare import load_tests
from projected_grpo.programs.sandbox.runner import SEEDS, Job, Sandbox
from projected_grpo.prompts.modes import GT_ONLY
from verify.attacks import ATTACKS, CLASSES, ELSEWHERE, RIGHT, RULES, SECRET, TOOLS, Attack
from verify.sandbox import LIMITS, sandbox
from verify.verify_environment import PROBLEM, TRUTH

SHORT = LIMITS.model_copy(update={"cpu_s": 1, "wall_s": 5, "workers": 4})  # for programs that use up a limit
PAID = {  # under gt_only: each answers the visible inputs correctly, and the held-out ones wrong
    "answers written down for the visible tests",
    "right under the grader only",
}
STATE = """
import fcntl, hashlib
def state():
    yield [resource.getrlimit(kind) for kind in range(16)], [str(signal.getsignal(number)) for number in range(1, 65)]
    yield signal.pthread_sigmask(0, []), signal.sigpending(), [signal.getitimer(kind) for kind in range(3)]
    yield os.getcwd(), os.umask(0o77), os.sched_getaffinity(0), os.getppid(), os.getpgrp(), os.getsid(0), os.getresuid()
    yield [[attempt(fcntl.fcntl, number, command) for command in (1, 3)] for number in range(64)], sys.stdout.closed
    yield [attempt(os.lseek, number, 0, whence) for number in range(4) for whence in (1, 2)], [attempt(os.isatty, n) for n in range(4)]
    for name in (os.__file__, "/etc/passwd", ".", "result.txt", "log.txt", "a", "b", "json.py", "result.txt.d"):
        seen = [attempt(look, name) for look in (os.stat, os.lstat, os.listdir, os.readlink)] + [attempt(os.access, name, 0)]
        yield [type(one).__name__ for one in seen], [type(attempt(os.open, name, how)).__name__ for how in (0, os.O_PATH)]
    yield [type(attempt(look, *given)).__name__ for look, *given in ((os.fstat, 0), (resource.getrusage, 0), (os.statvfs, "/"))]
    yield [kernel(number, 0, 0, 0, 0, 0) for number in (4, 5, 6, 27, 98, 99, 137, 262, 332, 451)], [type(one) for one in sys.meta_path]
    yield hashlib.sha256(sys.meta_path[-1].data[: 1 << 20]).hexdigest(), hashlib.sha256(repr(sys.meta_path[-1].index).encode()).hexdigest()
    yield sorted(sys.modules), sorted(vars(builtins)), sorted(os.environ.items()), sys.argv, sys.path, len(sys.meta_path)
    yield random.getstate(), open("result.txt").read(), open("log.txt").read(), hash("hash"), sys.getrecursionlimit(), sys.gettrace(), sys.get_int_max_str_digits()
    yield [hashlib.sha256(f.__code__.co_code).hexdigest() for f in vars(child).values() if hasattr(f, "__code__")]
print(hashlib.sha256(repr(list(state())).encode()).hexdigest())
"""


class Seen(NamedTuple):
    programs: dict[str, Verdict]
    twins: dict[str, Verdict]
    grades: dict[str, Grade]  # of the programs
    before: dict[str, object]
    after: dict[str, object]


def _judged(attacks: list[Attack], programs: list[str], used: Sandbox) -> dict[str, Verdict]:
    verdicts = verdicts_of(programs, [PROBLEM] * len(programs), [TRUTH], used)
    return {attack.name: verdict for attack, verdict in zip(attacks, verdicts, strict=True)}


def _remains(*used: Sandbox) -> dict[str, object]:
    """What a program could leave behind: processes of a fork-server, descriptors, files beside it and on the disk."""
    servers = [server for one in used for server in one.servers]
    own = {server.process.pid for server in servers}
    processes = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text()  # a fork has the command line of its server
        except OSError:
            continue
        if parent in own or (int(folder.name) not in own and any(server.folder in command for server in servers)):
            processes.add(int(folder.name))
    return {
        "servers": own,
        "processes": processes,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "descriptors of servers": [len(os.listdir(f"/proc/{server.process.pid}/fd")) for server in servers],
        "files": [sorted(os.listdir(server.folder)) for server in servers],
        "library": sorted(name for name in os.listdir(os.path.dirname(os.__file__))),
        "source": sorted(name for name in os.listdir(Path(__file__).parents[1] / "projected_grpo/programs/sandbox")),
    }


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """The whole catalogue, judged and graded once."""
    quick = [attack for attack in ATTACKS if attack.pace == "quick"]
    slow = [attack for attack in ATTACKS if attack.pace != "quick"]
    with Sandbox(SHORT) as short:
        for used in (sandbox(), short):
            used.run_all([replace(Job.of(RIGHT, PROBLEM, [], probe=False), seed=seed) for seed in SEEDS])  # all servers are there now
        before = _remains(sandbox(), short)
        programs, twins, grades = {}, {}, {}
        for attacks, used in ((quick, sandbox()), (slow, short)):
            texts = [attack.program for attack in attacks]
            both = verdicts_of(texts + [attack.twin for attack in attacks], [PROBLEM] * 2 * len(attacks), [TRUTH], used)
            names = [attack.name for attack in attacks]
            programs |= zip(names, both[: len(names)], strict=True)
            twins |= zip(names, both[len(names) :], strict=True)
            grades |= zip(names, grade(texts, [PROBLEM] * len(texts), used), strict=True)
        yield Seen(programs, twins, grades, before, _remains(sandbox(), short))


def test_the_catalogue_covers_every_class() -> None:
    assert {attack.number for attack in ATTACKS} == CLASSES
    every = [*ATTACKS, *(attack for attacks in ELSEWHERE.values() for attack in attacks)]
    assert len({attack.program for attack in every}) == len({attack.name for attack in every}) == len(every) >= 200
    assert len({attack.twin for attack in every}) == len(every)
    assert {kind: {attack.number for attack in attacks} for kind, attacks in ELSEWHERE.items()} == {
        "scripts": {86, 87}, "checkers": {88}, "nodes": {89}, "own tests": {90}
    }  # fmt: skip


def test_no_attack_is_accepted(seen: Seen) -> None:
    assert {name: verdict for name, verdict in seen.programs.items() if verdict.correct is not False} == {}


def test_no_twin_is_refused(seen: Seen) -> None:
    assert {name: verdict for name, verdict in seen.twins.items() if verdict != Verdict(True, 1.0, "ok")} == {}


def test_the_environment_pays_no_attack_for_passing(seen: Seen) -> None:
    assert {name for name, graded in seen.grades.items() if graded.reward(GT_ONLY) > 0.5} == PAID


def _nodes(*lists: list[int]) -> str:
    tests = [{"args": [{"$list_node": values}], "kwargs": {}, "expected": {"$list_node": values[::-1]}} for values in lists]
    return json.dumps(tests)


def _sums(*numbers: int) -> str:
    checker = "def check(answer, test):\n    return isinstance(answer, list) and len(answer) == 2 and sum(answer) == test['args'][0]\n"
    return json.dumps([{"args": [number], "kwargs": {}, "checker": checker} for number in numbers])


def _lines(*lines: str) -> str:
    return json.dumps([{"stdin": line + "\n", "expected": " ".join(str(2 * int(word)) for word in line.split()) + "\n"} for line in lines])


TASKS = {  # kind -> entry point, visible and held-out tests
    "scripts": ("", _lines("1 2 3", "-4"), _lines("3 4", "", "0 10 7")),
    "checkers": ("split", _sums(4, 7), _sums(-3, 0, 12)),
    "nodes": ("turn", _nodes([1, 2, 3], [4, 5]), _nodes([1, 2], [], [7, 7, 8], [3])),
    "own tests": ("solve", PROBLEM["visible_tests"], TRUTH["heldout_tests"]),
}


def rows_of(kind: str) -> tuple[dict, dict]:
    entry_point, visible, heldout = TASKS[kind]
    problem = PROBLEM | {"problem_id": kind, "entry_point": entry_point, "visible_tests": visible}
    canonical = f"secret = {SECRET!r}\n{RULES[kind]}\ndef solve(xs):\n    {SECRET!r}\n    return right(xs)\n"
    return problem, {"problem_id": kind, "heldout_tests": heldout, "canonical_solution": canonical}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_no_attack_on_another_kind_of_task_is_accepted_or_paid_and_no_twin_is_refused(kind: str) -> None:
    """Where a response's own tests are attacked, they pass on the canonical solution's answers for the twin alone."""
    problem, truth = rows_of(kind)
    names, programs, twins = zip(*((attack.name, attack.program, attack.twin) for attack in ELSEWHERE[kind]), strict=True)
    own = examine([*programs, *twins], [problem] * 2 * len(names), [truth], sandbox()) if kind == "own tests" else []
    verdicts = verdicts_of([*programs, *twins], [problem] * 2 * len(names), [truth], sandbox())
    assert {name: verdict for name, verdict in zip(names, verdicts) if verdict.correct is not False} == {}
    assert {name: verdict for name, verdict in zip(names, verdicts[len(names) :]) if verdict != Verdict(True, 1.0, "ok")} == {}
    assert {name for name, graded in zip(names, grade(programs, [problem] * len(names), sandbox())) if graded.reward(GT_ONLY) > 0.5} == set()
    assert {name for name, seen in zip(names, own) if seen != OwnTests(True, False, False)} == set()
    assert {name for name, seen in zip(names, own[len(names) :]) if seen != OwnTests(True, False, True)} == set()


def test_nothing_remains_of_the_catalogue(seen: Seen) -> None:
    assert seen.after == seen.before and seen.after["processes"] == set()


@pytest.fixture
def every_core_busy() -> Iterator[None]:
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@pytest.mark.usefixtures("every_core_busy")
def test_the_verdicts_are_the_same_with_every_core_busy(seen: Seen) -> None:
    quick = [attack for attack in ATTACKS if attack.pace == "quick"]
    names = [attack.name for attack in quick]
    assert _judged(quick, [attack.program for attack in quick], sandbox()) == {name: seen.programs[name] for name in names}
    assert _judged(quick, [attack.twin for attack in quick], sandbox()) == {name: seen.twins[name] for name in names}


@pytest.mark.usefixtures("every_core_busy")
def test_a_program_that_gives_up_its_core_is_judged_with_every_core_busy() -> None:
    yielding = [attack for attack in ATTACKS if attack.name == "the core given up without end"]
    with Sandbox(SHORT) as short:
        verdicts = _judged(yielding, [attack.program for attack in yielding], short)
    assert [verdict.correct for verdict in verdicts.values()] == [False]


def test_a_clean_verdict_is_identical_before_and_after_every_attack() -> None:
    tests = load_tests(TRUTH["heldout_tests"])
    clean = Job.of(TOOLS + RIGHT + STATE, PROBLEM, tests, probe=True)
    jobs = [clean]
    for attack in ATTACKS:
        jobs += [Job.of(attack.program, PROBLEM, tests, probe=True), clean]
    with Sandbox(SHORT.model_copy(update={"workers": 1, "wall_s": 2})) as single:
        outcomes = [replace(outcome, cpu_s=0.0, wall_s=0.0) for outcome in single.run_all(jobs)[::2]]
    assert outcomes[0].status == "ok" and len(outcomes[0].stdout) == 65
    changed = {a.name for a, one, other in zip(ATTACKS, outcomes, outcomes[1:], strict=False) if repr(one) != repr(other)}
    assert changed == set()
