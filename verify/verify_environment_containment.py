"""The sandbox reports every end of a program as a verdict, believes no forged result and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projected_grpo.environment.grader import NotGradedError, grade
from projected_grpo.ground_truth.verdicts import Verdict, verdicts_of
from projected_grpo.programs.sandbox import forkserver
from projected_grpo.programs.sandbox.forkserver import Ended, SandboxError
from projected_grpo.programs.sandbox.frames import decode, is_result
from projected_grpo.programs.sandbox.runner import Job, Remembering, Sandbox, observed
from projected_grpo.programs.sandbox.selftest import LAYERS
from projected_grpo.prompts.modes import MARKER_FILE, TRAINING_WORDS, WRITABLE_FILES
from projected_grpo.settings.profile import Grading
from verify.sandbox import LIMITS, sandbox
from verify.verify_environment import CORRECT, HELDOUT, PROBLEM, SOLVE, TRUTH, VISIBLE, WRONG, _grade, _judge

ONE = LIMITS.model_copy(update={"workers": 1})
FRAME = """
import json, os
def write(data):
    os.write(3, len(data).to_bytes(4, "big") + data)
def send(message):
    write(json.dumps(message).encode())
"""
END = "os._exit(0)\n"
FORGED = {  # COUNT stands for the number of tests
    "guesses": "send({'status': 'ok', 'calls': [['value', 0, True]] * COUNT, 'run_tests': True})\n" + END,
    "guesses without an end": "send({'status': 'ok', 'calls': [['value', [], True]] * COUNT})\n",
    "an unjudged status": "send({'status': 'timeout_wall', 'calls': []})\n" + END,
    "an unknown status": "send({'status': ['ok'], 'calls': []})\n" + END,
    "no calls": "send({'status': 'ok'})\n" + END,
    "calls that are no list": "send({'status': 'ok', 'calls': 7})\n" + END,
    "calls that are no triples": "send({'status': 'ok', 'calls': [3] * COUNT})\n" + END,
    "calls that are short": "send({'status': 'ok', 'calls': [['value']] * COUNT})\n" + END,
    "two results": "send({'status': 'ok', 'calls': []})\nsend({'status': 'ok', 'calls': []})\n" + END,
    "no mapping": "send([1])\n" + END,
    "a nesting bomb": "write(b'[' * 100000)\n" + END,
    "no JSON": "write(bytes(range(256)))\n" + END,
    "a frame longer than the file": "os.write(3, b'\\xff' * 8)\n",
    "a rewritten file": "os.lseek(3, 0, 0)\nos.ftruncate(3, 0)\n" + END,
    "a flood": "os.write(3, bytes(1 << 22))\n" + END,
}


def _job(program: str) -> Job:
    return Job(program, "", "solve", ({"args": [[2]], "kwargs": {}},), TRAINING_WORDS, (("int",),))


def _children(pid: int) -> set[int]:
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.add(int(folder.name))
    return found


def _ends(pid: int) -> bool:
    """Whether the process is gone, or a corpse that its new parent has yet to collect."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_result_is_wrong_and_raises_nothing(name: str) -> None:
    program = FRAME + FORGED[name] + WRONG
    assert _judge(program.replace("COUNT", str(len(HELDOUT))))[0].correct is False
    assert _grade(program.replace("COUNT", str(len(VISIBLE)))).visible_pass is False


@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda data: len(data).to_bytes(4, "big") + data))
def test_the_decoder_reads_any_bytes_without_an_error(data: bytes) -> None:
    messages = decode(data)
    assert isinstance(messages, list) and not any(is_result(message) for message in messages)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["status", "calls", "a"]), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(JSON, max_size=4))
def test_the_decoder_gives_back_what_was_written(messages: list) -> None:
    texts = [json.dumps(message).encode() for message in messages]
    data = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
    assert decode(data) == messages
    assert not data or decode(data[:-1])[-1] is None
    ended = Ended(0, 0.1, 0.1, 0.0, 0, False, b"", data, {})
    own_words = ("ok", "exception", "compile_error", "oom", "asks", "early_exit", "bad_frame", "infra_error")
    assert observed(ended, LIMITS, LIMITS.cpu_s).status in own_words


def test_each_end_of_a_program_has_its_status() -> None:
    ends = {
        "while True:\n    pass\n": "timeout_cpu",
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True:\n    pass\n": "timeout_cpu",
        "hoard = bytearray(1 << 33)\n": "oom",
        "print('x' * (1 << 25))\n": "output_too_big",
        "def solve(xs):\n    return 'x' * 5000000\n": "output_too_big",
        "import ctypes\nctypes.CDLL(None).ptrace(0, 0, 0, 0)\n": "policy_denied",
        "import ctypes\nctypes.string_at(0)\n": "killed",
        "raise ValueError\n": "exception",
        "raise SystemExit(3)\n": "early_exit",
        "def solve(:\n": "compile_error",
        SOLVE: "ok",
    }
    with Sandbox(LIMITS.model_copy(update={"cpu_s": 1})) as short:
        outcomes = short.run_all([_job(program) for program in ends])
        assert [outcome.status for outcome in outcomes] == list(ends.values())
        verdicts = verdicts_of(list(ends), [PROBLEM] * len(ends), [TRUTH], short)
    assert verdicts == [Verdict(False, 0.0, status) for status in list(ends.values())[:-1]] + [Verdict(True, 1.0, "ok")]


def test_a_program_that_sleeps_is_wrong_and_one_without_a_core_is_not_judged() -> None:
    with Sandbox(Grading(cpu_s=1, wall_s=1, memory_mb=512, workers=1)) as short:
        assert verdicts_of(["import time\ntime.sleep(9)\n" + SOLVE], [PROBLEM], [TRUTH], short) == [Verdict(False, 0.0, "asleep")]
    starved = Ended(signal.SIGKILL, 0.2, 30.0, 25.0, 5, True, b"", b"\0\0\0\x02{}", {})
    assert observed(starved, LIMITS, LIMITS.cpu_s).status == "timeout_wall"
    assert observed(replace(starved, rests=5000), LIMITS, LIMITS.cpu_s).status == "asleep"  # it naps in order to look starved
    looped = replace(starved, cpu_s=29.0, waited_s=0.5)  # it had a core all along, and the limit of CPU time is above that of wall time
    assert observed(looped, LIMITS, 60).status == "timeout_cpu"


def test_what_the_machine_failed_runs_again_with_the_time_of_a_near_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    given, run = [], forkserver.ForkServer.run
    with Sandbox(ONE) as single:
        monkeypatch.setattr(forkserver.ForkServer, "run", lambda self, job, stdin, cpu_s: given.append(cpu_s) or (run(self, job, stdin, cpu_s) if len(given) > 1 else None))
        assert single.run_all([_job(SOLVE)])[0].status == "ok"
    assert given == [ONE.cpu_s, 2 * ONE.cpu_s]


def test_output_beyond_the_limit_trips_no_channel() -> None:
    for program in ("print('ALL PASSED')\nprint('x' * (1 << 25))\n" + SOLVE, "def solve(xs):\n    return 'x' * 5000000\n"):
        graded = _grade(program)
        assert graded.channels == frozenset() and not graded.visible_pass


def test_a_program_that_shadows_modules_does_not_change_the_next_verdict() -> None:
    names = ("json", "random", "sitecustomize", "usercustomize", "projected_grpo")
    write = "try:\n    open('{}.py', 'w').write('raise SystemExit(0)')\nexcept OSError:\n    pass\n"
    program = WRONG + "".join(write.format(name) for name in names)
    assert [v.correct for v in _judge(program, CORRECT["late standard library import"], SOLVE)] == [False, True, True]
    assert _grade(SOLVE).status == "ok"


def test_the_marker_file_is_empty_for_the_next_program_and_cannot_be_replaced() -> None:
    with Sandbox(ONE) as single:
        write = f"open({MARKER_FILE!r}, 'w').write({TRAINING_WORDS.file_marker!r})\n"
        for attack in ("unlink('{0}')", "rename('{0}', 'b')", "symlink('/etc/passwd', 'b')", "link('{0}', 'b')", "chmod('{0}', 0)"):
            with_attack = f"import os\ntry:\n    os.{attack.format(MARKER_FILE)}\nexcept PermissionError:\n    print('refused')\n"
            seen = single.run_all([_job(write + with_attack), _job(f"print(open({MARKER_FILE!r}).read() == '')\n")])
            assert seen[0].written == {MARKER_FILE: TRAINING_WORDS.file_marker} and seen[0].stdout == "refused\n", attack
            assert seen[1].written == {} and seen[1].stdout == "True\n"


def test_environment_arguments_and_descriptors_stay_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGRPO_SECRET", "hidden")
    with (tmp_path / "open").open("w") as held, Sandbox(ONE) as single:
        os.set_inheritable(held.fileno(), True)
        look = "import os, sys\nprint(sorted(os.environ), sys.argv)\nfor number in range(1024):\n    try:\n        os.close(os.dup(number))\n"
        outcome = single.run_all([_job(look + "        print(number)\n    except OSError:\n        pass\n")])[0]
        first, *numbers = outcome.stdout.splitlines()
        assert first == "['LC_CTYPE', 'PATH', 'PYTHONHASHSEED'] ['program']" and numbers == ["0", "1", "2", "3"]


def test_random_numbers_are_the_same_for_every_program() -> None:
    seen = sandbox().run_all([_job("import random\nprint(random.random())\n")] * 4)
    assert len({outcome.stdout for outcome in seen}) == 1 and seen[0].stdout


def test_infinite_arguments_reach_the_program() -> None:
    tests = json.dumps([{"args": [[float("inf"), 1]], "kwargs": {}, "expected": float("inf")}])
    program = "def solve(xs):\n    return max(xs)\n"
    assert grade([program], [PROBLEM | {"visible_tests": tests}], sandbox())[0].visible_pass


WEAKENED = {  # a layer of the fork-server's source made void -> the layers that the self-test must find open
    "        self.landlock.restrict()  # before another descriptor takes the number of its own\n": {"Landlock: reading", "Landlock: writing"},
    "        self.seccomp.restrict()\n": {layer for layer in LAYERS if layer.startswith("seccomp")},
    "(resource.RLIMIT_AS, mapped + (memory_mb << 20)),": {"limit of memory"},
    "        confine.limit_cpu(cpu_s)\n": {"limit of CPU time"},
    "(resource.RLIMIT_FSIZE, file_mb << 20),": {"limit of file size"},
    "(resource.RLIMIT_NOFILE, 64),": {"limit of open files"},
    "        os.closerange(FRAMES + 1, 1 << 16)\n": {"no inherited descriptor"},
    '    sys.argv[:] = ["program"]\n': {"no other argument"},
}


SERVED = ("server.py", "child.py", "confine.py", "imports.py", "nodes.py", "protocol.py")  # what a fork-server is made of


@pytest.mark.parametrize("line", WEAKENED)
def test_the_sandbox_does_not_start_without_a_layer_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    source = forkserver.SERVER.parent
    for name in SERVED:
        text = (source / name).read_text()
        (tmp_path / name).write_text(text.replace(line, "        pass\n" if line.endswith("\n") and line[4] == " " else ""))
    monkeypatch.setattr(forkserver, "SERVER", tmp_path / "server.py")
    with pytest.raises(SandboxError) as refused:  # little memory, so that a slow machine too has filled it within the limit of CPU time
        Sandbox(ONE.model_copy(update={"memory_mb": 64}))
    assert {layer for layer in LAYERS if layer in str(refused.value)} == WEAKENED[line]


def test_a_kernel_that_refuses_a_layer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = forkserver.SERVER.parent
    for name in SERVED:
        (tmp_path / name).write_text((source / name).read_text().replace("ADD_RULE, RESTRICT_SELF = 126, 444", "ADD_RULE, RESTRICT_SELF = 126, 999"))
    monkeypatch.setattr(forkserver, "SERVER", tmp_path / "server.py")
    with pytest.raises(SandboxError, match="Landlock: Function not implemented"):
        Sandbox(ONE)


@pytest.mark.parametrize("line, layer", [("self.landlock.restrict()", "Landlock"), ("self.seccomp.restrict()", "seccomp")])
def test_a_layer_that_fails_in_the_fork_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, layer: str) -> None:
    source = forkserver.SERVER.parent
    for name in SERVED:
        failing = f"confine.checked(confine.syscall(999), {layer!r})"
        (tmp_path / name).write_text((source / name).read_text().replace(line, failing))
    monkeypatch.setattr(forkserver, "SERVER", tmp_path / "server.py")
    with pytest.raises(SandboxError, match=f"infra_error: .*{layer}: Function not implemented"):
        Sandbox(ONE)


def test_the_sandbox_starts_whichever_descriptors_are_free() -> None:
    """The numbers go to the fork-server, where each could be the one that a fork gives to its frames."""
    start = """
import itertools, os
from projected_grpo.programs.sandbox.library import library
from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.settings.profile import Grading
for order in itertools.product((False, True), repeat=4):
    null = os.open(os.devnull, os.O_RDONLY)
    held = [number for number, free in zip((3, 4, 5, 6), order) if not free]
    for number in {3, 4, 5, 6} - {null}:
        os.dup2(null, number)
    for number in {3, 4, 5, 6} - set(held):
        os.close(number)
    library.cache_clear()
    library()
    Sandbox(Grading(cpu_s=2, wall_s=30, memory_mb=64, workers=1)).close()
    os.close(library())
    for number in held:
        os.close(number)
print("16 started")
"""
    done = subprocess.run([sys.executable, "-c", start], cwd=Path(__file__).parent.parent, text=True, capture_output=True, check=False)
    assert done.stdout == "16 started\n", done.stderr


def test_a_killed_server_is_replaced_and_its_program_judged() -> None:
    with Sandbox(ONE) as single:
        before, folder = single.servers[0].process.pid, single.servers[0].folder
        os.kill(before, signal.SIGKILL)
        assert single.servers[0].run(b"{}", b"", 1) is None  # the loss is seen, never taken for a wrong answer
        assert single.servers[0].process.pid != before and not Path(folder).exists()
        os.kill(single.servers[0].process.pid, signal.SIGKILL)
        assert verdicts_of([SOLVE], [PROBLEM], [TRUTH], single)[0].correct is True  # lost, and run once more


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_program_killed_from_outside_runs_again_and_is_not_judged_when_it_is_killed_again(number: int) -> None:
    slow = "import time\ntime.sleep(1.0)\n" + SOLVE
    for times, verdict in ((1, Verdict(True, 1.0, "ok")), (2, Verdict(None, None, "infra_error"))):
        with Sandbox(ONE) as single, ThreadPoolExecutor(1) as pool:
            judged = pool.submit(verdicts_of, [slow], [PROBLEM], [TRUTH], single)
            for _ in range(times):
                while not (children := _children(single.servers[0].process.pid)):
                    time.sleep(0.01)
                os.kill(children.pop(), number)
                while _children(single.servers[0].process.pid) & children:
                    time.sleep(0.01)
                time.sleep(0.1)
            assert judged.result() == [verdict]


def test_a_remembering_sandbox_runs_a_job_once_ever_and_keeps_no_failure_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    started, run = [], forkserver.ForkServer.run
    one, other = _job("print(1)\n" + SOLVE), _job("print(2)\n" + SOLVE)
    with Remembering(ONE) as single:
        monkeypatch.setattr(forkserver.ForkServer, "run", lambda self, job, *limits: started.append(job))
        assert [outcome.status for outcome in single.run_all([one])] == ["infra_error"]
        monkeypatch.setattr(forkserver.ForkServer, "run", lambda self, job, *limits: started.append(job) or run(self, job, *limits))
        started.clear()
        first = single.run_all([one, other, one])
        assert [outcome.stdout for outcome in first] == ["1\n", "2\n", "1\n"] and len(started) == 2
        assert single.run_all([other, one]) == [first[1], first[0]] and len(started) == 2


def test_the_limit_of_cpu_time_is_that_of_the_process_s_own_clock() -> None:
    with Sandbox(Grading(cpu_s=1, wall_s=60, memory_mb=256, workers=1)) as single:
        deaf = "import signal\nfor number in range(1, 65):\n    try:\n        signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError):\n        pass\n"
        for program in ("while True:\n    pass\n", deaf + "while True:\n    pass\n"):
            [outcome] = single.run_all([_job(program)])  # once with 1 s, and once more with 2
            assert outcome.status == "timeout_cpu" and 2.0 <= outcome.cpu_s < 2.2
        [near] = single.run_all([_job("import time\nwhile time.process_time() < 0.9:\n    pass\n" + SOLVE)])
        assert near.status == "ok" and 0.9 <= near.cpu_s < 1.0


def test_frames_beyond_the_few_that_a_program_writes_are_not_read() -> None:
    message = json.dumps({"entered": True}).encode()
    frame = len(message).to_bytes(4, "big") + message
    assert decode(frame * 64) == [{"entered": True}] * 64
    assert decode(frame * 150000) == [{"entered": True}] * 64 + [None]


def test_a_program_that_no_server_survives_is_not_judged_and_not_paid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(ONE) as single:
        monkeypatch.setattr(forkserver.ForkServer, "run", lambda self, *job: None)
        assert verdicts_of([SOLVE], [PROBLEM], [TRUTH], single) == [Verdict(None, None, "infra_error")]
        graded = grade([SOLVE], [PROBLEM], single)[0]
        with pytest.raises(NotGradedError, match="infra_error"):
            graded.reward("run_tests")


def test_a_thousand_stopped_programs_leave_nothing_behind() -> None:
    with Sandbox(Grading.model_construct(cpu_s=1, wall_s=0.2, memory_mb=512, workers=16)) as short:
        servers = [server.process.pid for server in short.servers]
        folders = [Path(server.folder) for server in short.servers]
        opened = len(os.listdir("/proc/self/fd"))
        outcomes = short.run_all([_job("import time\ntime.sleep(9)\n")] * 1000)
        assert {outcome.status for outcome in outcomes} == {"asleep"}
        assert [server.process.pid for server in short.servers] == servers and not any(_children(pid) for pid in servers)
        assert len(os.listdir("/proc/self/fd")) == opened
        assert all(sorted(os.listdir(folder)) == sorted(WRITABLE_FILES) for folder in folders)
    assert all(_ends(pid) for pid in servers) and not any(folder.exists() for folder in folders)


TRAINER = """
import sys
from projected_grpo.programs.sandbox.runner import Sandbox
from verify.sandbox import LIMITS
from verify.verify_environment_containment import _job
sandbox = Sandbox(LIMITS)
print(*(server.process.pid for server in sandbox.servers), *(server.folder for server in sandbox.servers), flush=True)
sandbox.run_all([_job("import time\\ntime.sleep(600)\\n")] * 2)
"""


def test_nothing_survives_the_trainer() -> None:
    trainer = subprocess.Popen([sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, text=True)
    first, second, *folders = trainer.stdout.readline().split()
    servers = [int(first), int(second)]
    programs = set()
    for _ in range(500):
        programs = set().union(*(_children(pid) for pid in servers))
        if len(programs) == 2:
            break
        time.sleep(0.01)
    assert len(programs) == 2
    trainer.kill()
    trainer.wait()
    assert all(_ends(pid) for pid in [*servers, *programs])
    assert not any(Path(folder).exists() for folder in folders)
