"""Run untrusted programs, each in a fresh confined fork, and report what was observed. docs/grading.md says what is
promised and how each layer was tested."""

import json
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType

from projected_grpo.env.modes import MARKER_FILE, TRAINING_WORDS, Words, words_of
from projected_grpo.env.sandbox.forkserver import Ended, ForkServer, SandboxError
from projected_grpo.env.sandbox.frames import FRAME_LIMIT, decode, is_result
from projected_grpo.env.sandbox.selftest import LAYERS, PROGRAM
from projected_grpo.scale import Grading

SIGNALS = {signal.SIGXCPU: "timeout_cpu", signal.SIGXFSZ: "output_too_big", signal.SIGSYS: "policy_denied"}
NOT_JUDGED = ("infra_error", "timeout_wall")  # the machine's doing, not the program's: once more, then left out
RESTS_PER_S = 10  # a program that gives up its core more often than this is not kept from it


@dataclass(frozen=True)
class Job:
    program: str
    setup_code: str
    entry_point: str
    inputs: tuple[dict, ...]  # {args, kwargs}; expected values stay outside
    words: Words  # of the problem: the names of its evaluation function and its sentinel
    probe: bool  # look for the channels that only the program's own interpreter can see
    stand_in: str  # a solution that replaces the program's own under its evaluation function; empty for none

    @classmethod
    def of(cls, program: str, problem: dict, tests: Sequence[dict], probe: bool, stand_in: str = "") -> "Job":
        """`problem` is a row of the table problems; of the tests, nothing but their inputs goes in."""
        inputs = tuple({"args": test["args"], "kwargs": test["kwargs"]} for test in tests)
        return cls(program, problem["setup_code"], problem["entry_point"], inputs, words_of(problem), probe, stand_in)


@dataclass(frozen=True)
class Outcome:
    """What one run showed. `calls` holds [kind, value, lies] for each input, or nothing where the run did not finish.

    status: ok | compile_error | exception | oom | early_exit | bad_frame | output_too_big | policy_denied | killed |
    timeout_cpu | asleep (wall limit, not for want of a core) | timeout_wall (for want of a core) | infra_error
    """

    status: str
    exit_code: int | None  # None where a signal ended the process
    compiled: bool
    calls: tuple
    run_tests: bool
    sentinel: bool
    stand_in: bool  # its run_tests() passed on the stand-in
    stdout: str
    written: dict[str, str]  # name -> content of the files that were written
    cpu_s: float
    wall_s: float


LOST = Outcome("infra_error", None, False, (), False, False, False, "", {}, 0.0, 0.0)


class Sandbox:
    """`limits.workers` fork-servers. Raises SandboxError at the start where a layer does not hold."""

    def __init__(self, limits: Grading) -> None:
        self.limits = limits
        self.servers = [ForkServer(limits) for _ in range(limits.workers)]
        self._idle: SimpleQueue[ForkServer] = SimpleQueue()
        for server in self.servers:
            self._idle.put(server)
        self._threads = ThreadPoolExecutor(limits.workers)
        self._prove()

    def run_all(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Outcomes in the order of the jobs. A job that the machine failed runs once more, with nothing beside it."""
        outcomes = list(self._threads.map(self._run, jobs))
        return [self._run(job) if seen.status in NOT_JUDGED else seen for job, seen in zip(jobs, outcomes)]

    def _run(self, job: Job) -> Outcome:
        server = self._idle.get()
        try:
            ended = server.run(_encoded(job))
        finally:
            self._idle.put(server)
        return LOST if ended is None else observed(ended, self.limits)

    def _prove(self) -> None:
        """Let a program try to break each layer."""
        given = ({"args": [self.limits.memory_mb, MARKER_FILE], "kwargs": {}},)
        outcome = self._run(Job(PROGRAM, "", "solve", given, TRAINING_WORDS, False, ""))
        held = outcome.calls[0][1] if outcome.status == "ok" and outcome.calls[0][0] == "value" else {}
        if broken := [layer for layer in LAYERS if held.get(layer) is not True]:
            self.close()
            raise SandboxError(
                f"programs cannot be confined on this machine: {', '.join(broken)} did not hold in the self-test, "
                f"which ended with status {outcome.status}; docs/grading.md says what the machine must offer"
            )

    def close(self) -> None:
        self._threads.shutdown()
        with ExitStack() as stack:
            for server in self.servers:
                stack.callback(server.close)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _encoded(job: Job) -> bytes:
    return json.dumps(vars(job), default=vars).encode()


def observed(ended: Ended, limits: Grading) -> Outcome:
    exit_code = os.waitstatus_to_exitcode(ended.wait_status)
    messages = decode(ended.frames)
    last = messages[-1] if messages else None
    result = last if exit_code == 0 and is_result(last) else {}
    return Outcome(
        status=_status(ended, exit_code, messages, result, limits),
        exit_code=exit_code if exit_code >= 0 else None,
        compiled={"compiled": True} in messages,
        calls=tuple(result.get("calls", ())),
        run_tests=result.get("run_tests") is True,
        sentinel=result.get("sentinel") is True,
        stand_in=result.get("stand_in") is True,
        stdout=ended.stdout.decode("utf-8", "replace"),
        written={name: content.decode("utf-8", "replace") for name, content in ended.written.items()},
        cpu_s=ended.cpu_s,
        wall_s=ended.wall_s,
    )


def _status(ended: Ended, exit_code: int, messages: list, result: dict, limits: Grading) -> str:
    if not ended.frames:  # written before the program starts, and sealed: no program takes this back
        return "infra_error"
    if result:
        return result["status"]
    if ended.timed_out:
        wanted_a_core = ended.cpu_s + ended.waited_s > 0.5 * limits.wall_s and ended.rests < RESTS_PER_S * limits.wall_s
        return "timeout_wall" if wanted_a_core else "asleep"
    if len(ended.frames) > FRAME_LIMIT:
        return "output_too_big"
    if exit_code < 0:
        spent = ended.cpu_s >= limits.cpu_s  # the kernel counts in ticks, and its hard limit kills
        return SIGNALS.get(-exit_code, "timeout_cpu" if spent else "killed")
    started = messages in ([{"entered": True}], [{"entered": True}, {"compiled": True}])
    return "early_exit" if started else "bad_frame"
