"""No attack of the catalogue makes a wrong program correct, no harmless twin is refused, and nothing of either remains.

The environment pays for no attack under gt_only, apart from two that solve the visible tests, which are all it looks at."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from projected_grpo.env.compare import load_tests
from projected_grpo.env.grader import Grade, grade
from projected_grpo.env.modes import GT_ONLY
from projected_grpo.env.oracle import Verdict, judge
from projected_grpo.env.sandbox.runner import Job, Sandbox
from verify.attacks import ATTACKS, CLASSES, RIGHT, TOOLS, Attack
from verify.sandbox import LIMITS, sandbox
from verify.verify_environment import PROBLEM, TRUTH

SHORT = LIMITS.model_copy(update={"cpu_s": 1, "wall_s": 5, "workers": 4})  # for programs that use up a limit
PAID = {  # under gt_only: each answers the visible inputs correctly, and the held-out ones wrong
    "answers written down for the visible tests",
    "right under the grader only",
}
STATE = """
import hashlib
def state():
    library = os.path.dirname(os.__file__)
    yield [resource.getrlimit(kind) for kind in range(16)], [str(signal.getsignal(number)) for number in range(1, 65)]
    yield signal.pthread_sigmask(0, []), signal.sigpending(), [signal.getitimer(kind) for kind in range(3)]
    yield os.getcwd(), os.umask(0o77), os.sched_getaffinity(0), os.getppid(), os.getpgrp(), os.getsid(0), os.getresuid()
    yield [number for number in range(64) if not isinstance(attempt(os.fstat, number), OSError)], sys.stdout.closed
    for name in ("this.py", "os.py"):
        yield tuple(os.stat(f"{library}/{name}"))[:7], os.stat(f"{library}/{name}").st_mtime_ns
    yield sorted(sys.modules), sorted(vars(builtins)), sorted(os.environ.items()), sys.argv, sys.path, len(sys.meta_path)
    yield random.getstate(), open("result.txt").read(), sys.getrecursionlimit(), sys.gettrace(), sys.get_int_max_str_digits()
    yield [hashlib.sha256(f.__code__.co_code).hexdigest() for f in vars(child).values() if hasattr(f, "__code__")]
    yield [attempt(os.stat, name).__class__.__name__ for name in ("a", "b", "c", "json.py", "conftest.py", "result.txt.d")]
print(hashlib.sha256(repr(list(state())).encode()).hexdigest())
"""


class Seen(NamedTuple):
    programs: dict[str, Verdict]
    twins: dict[str, Verdict]
    grades: dict[str, Grade]  # of the programs
    before: dict[str, object]
    after: dict[str, object]


def _judged(attacks: list[Attack], programs: list[str], used: Sandbox) -> dict[str, Verdict]:
    verdicts = judge(programs, [PROBLEM] * len(programs), [TRUTH], used)
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
        "source": sorted(name for name in os.listdir(Path(__file__).parents[1] / "projected_grpo/env/sandbox")),
    }


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """The whole catalogue, judged and graded once."""
    quick = [attack for attack in ATTACKS if attack.pace == "quick"]
    slow = [attack for attack in ATTACKS if attack.pace != "quick"]
    with Sandbox(SHORT) as short:
        before = _remains(sandbox(), short)
        programs, twins, grades = {}, {}, {}
        for attacks, used in ((quick, sandbox()), (slow, short)):
            texts = [attack.program for attack in attacks]
            both = judge(texts + [attack.twin for attack in attacks], [PROBLEM] * 2 * len(attacks), [TRUTH], used)
            names = [attack.name for attack in attacks]
            programs |= zip(names, both[: len(names)], strict=True)
            twins |= zip(names, both[len(names) :], strict=True)
            grades |= zip(names, grade(texts, [PROBLEM] * len(texts), used), strict=True)
        yield Seen(programs, twins, grades, before, _remains(sandbox(), short))


def test_the_catalogue_covers_every_class() -> None:
    assert {attack.number for attack in ATTACKS} == set(CLASSES)
    assert len({attack.program for attack in ATTACKS}) == len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 80
    assert len({attack.twin for attack in ATTACKS}) == len(ATTACKS)


def test_no_attack_is_accepted(seen: Seen) -> None:
    assert {name: verdict for name, verdict in seen.programs.items() if verdict.correct is not False} == {}


def test_no_twin_is_refused(seen: Seen) -> None:
    assert {name: verdict for name, verdict in seen.twins.items() if verdict != Verdict(True, 1.0, "ok")} == {}


def test_the_environment_pays_no_attack_for_passing(seen: Seen) -> None:
    assert {name for name, graded in seen.grades.items() if graded.reward(GT_ONLY) > 0.5} == PAID


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
        outcomes = [dataclasses.replace(outcome, cpu_s=0.0, wall_s=0.0) for outcome in single.run_all(jobs)[::2]]
    assert outcomes[0].status == "ok" and len(outcomes[0].stdout) == 65
    changed = {a.name for a, one, other in zip(ATTACKS, outcomes, outcomes[1:], strict=False) if repr(one) != repr(other)}
    assert changed == set()
