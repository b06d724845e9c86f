"""Run untrusted programs, each in a fresh confined fork, and report what was observed. docs/grading.md says what is
promised and how each layer was tested."""

import marshal
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from operator import itemgetter
from queue import SimpleQueue
from types import CodeType, TracebackType

from projected_grpo.programs.sandbox.forkserver import Ended, ForkServer, SandboxError
from projected_grpo.programs.sandbox.frames import FRAME_LIMIT, decode, is_result
from projected_grpo.programs.sandbox.nodes import LIST, TREE
from projected_grpo.programs.sandbox.selftest import LAYERS, PROGRAM
from projected_grpo.prompts.modes import MARKER_FILE, TRAINING_WORDS, Words, words_of
from projected_grpo.settings.profile import Grading

SIGNALS = {signal.SIGXCPU: "timeout_cpu", signal.SIGXFSZ: "output_too_big", signal.SIGSYS: "policy_denied"}
NOT_JUDGED = ("infra_error", "timeout_wall")  # the machine's doing, not the program's: once more, then left out
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # which no program can send to itself
HASH_SEEDS = {0: 0, 28: 9201}  # seed of random numbers -> of hashes; most coins that are thrown once fall differently from these two
SEEDS = tuple(HASH_SEEDS)
MORE_TIME = 2  # a program that reached the limit of CPU time runs again with this many times as much
RESTS_PER_S = 10  # a program that gives up its core more often than this is not kept from it


@dataclass(frozen=True)
class Job:
    program: str
    setup_code: str
    entry_point: str
    inputs: tuple[dict, ...]  # {args, kwargs}; expected values stay outside
    words: Words  # of the problem: the names of its evaluation function and its sentinel
    kinds: tuple = ()  # of the expected values; where there are some, the channels inside the interpreter are looked for
    stand_in: str = ""  # a solution that replaces the program's own under its evaluation function; empty for none
    answers: tuple[tuple[str, list], ...] = ()  # what the stand-in may ask, and the calls that answer it
    stdin: str | None = None  # standard input of a program that is a script, not a function
    seed: int = SEEDS[0]  # of random numbers and hashes; one of SEEDS
    nodes: bool = False  # its task has lists or trees of nodes, whose classes it is given, whatever its own inputs are

    @classmethod
    def of(cls, program: str, problem: dict, tests: Sequence[dict], probe: bool) -> "Job":
        """`problem` is a row of the table problems; of the tests, inputs alone go in, and the types of what is expected where
        the channels are looked for."""
        inputs = tuple({"args": test["args"], "kwargs": test["kwargs"]} for test in tests)
        kinds = tuple(kind_of(test.get("expected")) for test in tests) if probe else ()
        tagged = any(tag in problem.get("visible_tests", "") for tag in (LIST, TREE))
        return cls(program, problem["setup_code"], problem["entry_point"], inputs, words_of(problem), kinds, nodes=tagged)


@dataclass(frozen=True)
class Outcome:
    """What one run showed. `calls` holds [kind, value, lies] for each input, or nothing where the run did not finish.

    status: ok | compile_error | exception | oom | asks | early_exit | bad_frame | output_too_big | policy_denied | killed |
    timeout_cpu | asleep (wall limit, not for want of a core) | timeout_wall (for want of a core) | infra_error
    """

    status: str
    exit_code: int | None  # None where a signal ended the process
    compiled: bool
    calls: tuple
    run_tests: bool
    sentinel: bool
    stand_in: bool  # its run_tests() passed on the stand-in
    question: dict | None  # the arguments of a call that the stand-in could not answer
    stdout: str
    written: dict[str, str]  # name -> content of the files that were written
    cpu_s: float
    wall_s: float


LOST = Outcome("infra_error", None, False, (), False, False, False, None, "", {}, 0.0, 0.0)


def kind_of(expected: object) -> str | tuple:
    """Its type; of a list, the type of its items."""
    if isinstance(expected, list):
        return (kind_of(expected[0]) if expected else "int",)
    return type(expected).__name__


class Sandbox:
    """`limits.workers` fork-servers of each seed, those of another than the first from when they are needed.

    Raises SandboxError at the start where a layer does not hold.
    """

    def __init__(self, limits: Grading) -> None:
        self.limits = limits
        self.servers: list[ForkServer] = []
        self._idle: dict[int, SimpleQueue[ForkServer]] = {}
        self._threads = ThreadPoolExecutor(limits.workers)
        self._start(SEEDS[0])
        self._prove()

    def run_all(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Outcomes in the order of the jobs.

        A job that reached the limit of CPU time runs once more with more of it, and one that the machine failed once more with
        nothing beside it.
        """
        for seed in {job.seed for job in jobs} - self._idle.keys():
            self._start(seed)
        outcomes = self._run_beside(jobs, self.limits.cpu_s)
        late = [place for place, seen in enumerate(outcomes) if seen.status == "timeout_cpu"]
        for place, seen in zip(late, self._run_beside([jobs[place] for place in late], MORE_TIME * self.limits.cpu_s)):
            outcomes[place] = seen
        return [self._run(job, MORE_TIME * self.limits.cpu_s) if seen.status in NOT_JUDGED else seen for job, seen in zip(jobs, outcomes)]

    def _start(self, seed: int) -> None:
        started = [ForkServer(self.limits, HASH_SEEDS[seed]) for _ in range(self.limits.workers)]
        self.servers += started
        self._idle[seed] = SimpleQueue()
        for server in started:
            self._idle[seed].put(server)

    def _run_beside(self, jobs: Sequence[Job], cpu_s: int) -> list[Outcome]:
        turns = enumerate(jobs)  # of all threads: each takes the next job when its last one is done
        taken = self._threads.map(self._take, [turns] * self.limits.workers, [cpu_s] * self.limits.workers)
        return [outcome for _, outcome in sorted(chain.from_iterable(taken), key=itemgetter(0))]

    def _take(self, turns: Iterator[tuple[int, Job]], cpu_s: int) -> list[tuple[int, Outcome]]:
        return [(number, self._run(job, cpu_s)) for number, job in turns]

    def _run(self, job: Job, cpu_s: int) -> Outcome:
        idle = self._idle[job.seed]
        server = idle.get()
        try:
            ended = server.run(_encoded(job), (job.stdin or "").encode(), cpu_s)
        finally:
            idle.put(server)
        return LOST if ended is None else observed(ended, self.limits, cpu_s)

    def _prove(self) -> None:
        """Let a program try to break each layer."""
        given = ({"args": [self.limits.memory_mb, MARKER_FILE], "kwargs": {}},)
        [outcome] = Sandbox.run_all(self, [Job(PROGRAM, "", "solve", given, TRAINING_WORDS)])
        held = outcome.calls[0][1] if outcome.status == "ok" and outcome.calls[0][0] == "value" else {}
        if broken := [layer for layer in LAYERS if held.get(layer) is not True]:
            self.close()
            raise SandboxError(
                f"programs cannot be confined on this machine: {', '.join(broken)} did not hold in the self-test, "
                f"which ended with status {outcome.status}{outcome.stdout and ': '}{outcome.stdout[:200]}; docs/grading.md says what the machine must offer"
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


class Remembering(Sandbox):
    """Runs a job once ever, for the runs of a campaign, whose programs repeat. What the machine failed to run is not kept."""

    def __init__(self, limits: Grading) -> None:
        super().__init__(limits)
        self.known: dict[bytes, Outcome] = {}

    def run_all(self, jobs: Sequence[Job]) -> list[Outcome]:
        names = [blake2b(_encoded(job), digest_size=16).digest() for job in jobs]
        new = {name: job for name, job in zip(names, jobs) if name not in self.known}
        found = dict(zip(new, super().run_all(list(new.values()))))
        self.known |= {name: outcome for name, outcome in found.items() if outcome.status not in NOT_JUDGED}
        return [found[name] if name in found else self.known[name] for name in names]


def _encoded(job: Job) -> bytes:
    compiled = {"setup_code": _compiled(job.setup_code, "exec"), "entry_point": _compiled(job.entry_point, "eval")}
    # version 2: what is one object here, such as two inputs, is not one there
    return marshal.dumps(vars(job) | compiled | {"words": vars(job.words)}, 2)


@lru_cache(1024)
def _compiled(text: str, mode: str) -> CodeType | str:
    """What the problem's author wrote, once for all programs; text that does not compile fails inside the sandbox."""
    try:
        return compile(text, "<string>", mode, dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text


def observed(ended: Ended, limits: Grading, cpu_s: int) -> Outcome:
    exit_code = os.waitstatus_to_exitcode(ended.wait_status)
    messages = decode(ended.frames)
    last = messages[-1] if messages else None
    result = last if exit_code == 0 and is_result(last) else {}
    return Outcome(
        status=_status(ended, exit_code, messages, result, limits, cpu_s),
        exit_code=exit_code if exit_code >= 0 else None,
        compiled={"compiled": True} in messages,
        calls=tuple(result.get("calls", ())),
        run_tests=result.get("run_tests") is True,
        sentinel=result.get("sentinel") is True,
        stand_in=result.get("stand_in") is True,
        question=result.get("question"),
        stdout=ended.stdout.decode("utf-8", "replace"),
        written={name: content.decode("utf-8", "replace") for name, content in ended.written.items()},
        cpu_s=ended.cpu_s,
        wall_s=ended.wall_s,
    )


def _status(ended: Ended, exit_code: int, messages: list, result: dict, limits: Grading, cpu_s: int) -> str:
    if not ended.frames:  # written before the program starts, and sealed: no program takes this back
        return "infra_error"
    if result:
        return result["status"]
    if ended.timed_out:
        if ended.cpu_s + ended.waited_s <= 0.5 * limits.wall_s or ended.rests >= RESTS_PER_S * limits.wall_s:
            return "asleep"
        return "timeout_wall" if ended.waited_s > 0.25 * limits.wall_s else "timeout_cpu"
    if len(ended.frames) > FRAME_LIMIT:
        return "output_too_big"
    if exit_code < 0:
        if -exit_code == signal.SIGKILL and ended.cpu_s >= cpu_s / 2:  # by its timer, or by the kernel's limit
            return "timeout_cpu"
        return "infra_error" if -exit_code in OUTSIDE else SIGNALS.get(-exit_code, "killed")
    started = messages in ([{"entered": True}], [{"entered": True}, {"compiled": True}])
    return "early_exit" if started else "bad_frame"
