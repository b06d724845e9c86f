"""The system-call filter gives each number and argument the answer of its table; a program gets its own job alone."""

import os
import socket
import struct
from itertools import product

import pytest

from projected_grpo.programs.sandbox import confine
from projected_grpo.programs.sandbox.confine import (
    ALLOW,
    ALLOWED,
    ARCH_X86_64,
    CLOCKS,
    EPERM,
    FATAL,
    FCNTL,
    IOCTL,
    KILL,
    OF_ITSELF,
    OPENAT,
    PRLIMIT,
    SOCKETPAIR,
)  # fmt: skip
from projected_grpo.programs.sandbox.runner import Job, Sandbox
from projected_grpo.prompts.modes import TRAINING_WORDS
from verify.sandbox import LIMITS, sandbox

CODE = confine.Seccomp().code
NUMBERS = [*range(1024), *(0x40000000 + number for number in range(1024)), 0x3FFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
WORDS = [0, 1, 2, 3, 4, 0xFFFFFFFF]
X32_BIT = 0x40000000


def answer(number: int, arguments: tuple[int, ...] = (), arch: int = ARCH_X86_64) -> int:
    """The filter's, by the meaning of its instructions; `arguments` are of 64 bits."""
    data = struct.pack("IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    steps, at, value = list(struct.iter_unpack("HBBI", CODE)), 0, 0
    while True:
        (operation, then, otherwise, operand), at = steps[at], at + 1
        if operation == 0x20:  # load a word
            value = struct.unpack_from("I", data, operand)[0]
        elif operation == 0x54:  # and
            value &= operand
        elif operation == 0x15:  # equal
            at += then if value == operand else otherwise
        elif operation == 0x35:  # at least
            at += then if value >= operand else otherwise
        else:
            assert operation == 0x06  # return
            return operand


def test_every_number_has_the_answer_of_its_table() -> None:
    for number in set(NUMBERS) - {FCNTL, IOCTL, PRLIMIT, OPENAT, SOCKETPAIR, *OF_ITSELF, *CLOCKS}:
        expected = KILL if number in FATAL else ALLOW if number in ALLOWED else EPERM
        assert answer(number, (0xFFFFFFFF,) * 6) == expected, number
    assert not set(FATAL) & set(ALLOWED) and {0, 1, 9, 231} < set(ALLOWED)
    processes = {56, 57, 58, 59, 322, 435}  # clone, fork, vfork, execve, execveat, clone3
    sockets = {41, 42, 43, 44, 45, 46, 47, 49, 50, 51, 52, 54, 55, 288, 299, 307}
    files = {2, 4, 5, 6, 21, 72 + X32_BIT, 78, 80, 81, 89, 137, 138, 217, 253, 254, 262, 267, 269, 294, 303, 332, 437, 439}  # open stat .. inotify
    counts = {27, 98, 99, 103, 203, 237, 239, 451}  # mincore getrusage sysinfo syslog .. cachestat
    refused = processes | sockets | files | counts | {number + X32_BIT for number in ALLOWED}
    assert {number for number in refused if answer(number) != EPERM} == set()


@pytest.mark.parametrize("arch", [0, 0x40000003, 0xC00000B7, 0x80000000, 0xFFFFFFFF])  # the second is i386
def test_another_machine_s_calls_kill(arch: int) -> None:
    assert {answer(number, arch=arch) for number in NUMBERS} == {KILL}


def test_the_answers_that_depend_on_an_argument() -> None:
    for request in [*range(1 << 11), 0x5401, 0x5402, 0x5412, 0x5413, 0x5414, 0x541B, 0x5421, 0x5450, 0x5451, 0x80000003, 0xFFFFFFFF]:
        asked = (9, request, 9)
        assert answer(FCNTL, asked) == (ALLOW if request in (0, 1, 2, 3, 1030) else EPERM)
        assert answer(IOCTL, asked) == (ALLOW if request in (0x5401, 0x5413, 0x5421, 0x5450, 0x5451) else EPERM)
    for low, high in product(WORDS, WORDS):
        assert answer(PRLIMIT, (0, 7, low | high << 32)) == (ALLOW if low == high == 0 else EPERM)
        assert answer(PRLIMIT, (low, 7, 0)) == (ALLOW if low == 0 else EPERM)
        assert {answer(number, (low, 9, 9)) for number in OF_ITSELF} == {ALLOW if low == 0 else EPERM}
    for clock in (0, 1, 2, 3, 4, 7, 11, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF2, 0xFFFFFFFF):
        assert {answer(number, (clock, 9, 9)) for number in CLOCKS} == {EPERM if clock >> 31 else ALLOW}, clock
    for family in [*range(64), 0xFFFFFFFF]:
        assert answer(SOCKETPAIR, (family, 9, 9, 9)) == (ALLOW if family == socket.AF_UNIX else EPERM), family
    every = 0xFFFFFFFF ^ os.O_TRUNC ^ 3
    for access, extra in product(range(4), (0, os.O_TRUNC, os.O_CREAT, os.O_CREAT | os.O_TRUNC, os.O_PATH, every, every ^ os.O_PATH)):
        refused = access == 3 or (access == os.O_RDONLY and extra & os.O_TRUNC) or extra & os.O_PATH
        assert answer(OPENAT, (0xFFFFFF9C, 1, access | extra)) == (EPERM if refused else ALLOW), (access, extra)


def _job(program: str, inputs: tuple[dict, ...] = (), setup_code: str = "", entry_point: str = "solve") -> Job:
    return Job(program, setup_code, entry_point, inputs, TRAINING_WORDS)


LOOK = """
import os
found = 0
for number in range(4096):
    for action in (os.pread, os.pwrite, os.lseek, os.ftruncate):
        try:
            given = (b"\\0" * 4096, 0) if action is os.pwrite else (1 << 16, 0) if action is os.pread else (0, 0)
            found += b"SECRET" in action(number, *given[: 1 if action is os.ftruncate else 2])
        except (OSError, TypeError):
            pass
    for process in ("self", os.getppid()):
        try:
            found += b"SECRET" in open(f"/proc/{process}/fd/{number}", "rb").read()
        except OSError:
            pass
os.write(1, b"FOUND" if found else b"NOTHING")
"""


def test_a_program_reads_and_writes_no_job() -> None:
    secret = _job("# SECRET\n" * 5000 + "print('unharmed')\n")
    with Sandbox(LIMITS.model_copy(update={"workers": 1})) as single:
        before, looked, after = single.run_all([secret, _job(LOOK), secret])
    assert looked.stdout == "NOTHING"
    assert before.stdout == after.stdout == "unharmed\n" and before.status == after.status == "ok"


MARSHALLED = """
import marshal, os
result = marshal.dumps({"status": "ok", "calls": [["value", 1, False]]})
os.write(3, len(result).to_bytes(4, "big") + result)
os._exit(0)
"""


def test_nothing_that_comes_back_is_unmarshalled() -> None:
    outcome = sandbox().run_all([_job(MARSHALLED)])[0]
    assert outcome.status == "bad_frame" and outcome.calls == ()


def test_what_is_one_object_outside_is_not_one_inside() -> None:
    shared = [1]
    given = {"args": [shared, shared], "kwargs": {}}
    outcome = sandbox().run_all([_job("def solve(a, b):\n    a.append(2)\n    return [a, b]\n", (given, given))])[0]
    assert [value for _, value, _ in outcome.calls] == [[[1, 2], [1]]] * 2


def test_what_the_author_wrote_fails_inside_the_sandbox_alone() -> None:
    given = ({"args": [], "kwargs": {}},)
    program = "def solve():\n    return asserts\n"
    setups, entries = ("def (", "", "asserts = __debug__"), ("solve", "solve(", "solve")
    jobs = [_job(program, given, setup, entry) for setup, entry in zip(setups, entries)]
    broken, no_entry, right = sandbox().run_all(jobs)
    assert broken.status == "early_exit" and broken.exit_code == 1 and broken.compiled is False
    assert no_entry.calls[0][:2] == ["error", "SyntaxError"] and right.calls[0][:2] == ["value", True]


def test_a_program_s_interpreter_collects_garbage() -> None:
    outcome = sandbox().run_all([_job("import gc\nprint(gc.isenabled(), gc.get_freeze_count() > 0)\n")])[0]
    assert outcome.stdout == "True True\n"
