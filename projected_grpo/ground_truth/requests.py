"""Programs to be graded that arrive as JSON lines, for users who want the environment without the training."""

import json
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from queue import Empty, Queue
from threading import Thread
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from projected_grpo.environment.grader import Grade, grade
from projected_grpo.ground_truth.verdicts import Verdict, verdicts_of
from projected_grpo.problems.admission import MACHINE, refusals
from projected_grpo.problems.leetcode import parse_assert
from projected_grpo.programs.compare import TOLERANCE, load_tests
from projected_grpo.programs.sandbox.runner import NOT_JUDGED, Sandbox
from projected_grpo.prompts.modes import GT_ONLY, MODES, TRAINING_WORDS, encode_words

KNOWN = 1 << 16  # tasks that are remembered
BATCH = 256  # lines held at a time, so memory does not grow with the input


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Call(Line):
    args: list
    kwargs: dict[str, Any]
    expected: Any = None
    tolerance: float = Field(TOLERANCE, ge=0.0)  # of floats


class Script(Line):
    stdin: str
    expected: str


class Request(Line):
    """Tests are {args, kwargs, expected}, {stdin, expected}, or assert strings, which are read as literals and never executed."""

    id: str | int
    mode: Literal[(*MODES, GT_ONLY)]
    setup_code: str
    entry_point: str = ""  # of calls
    checker: str | None = None  # defines check(answer, test), for tasks with several right answers
    tests: list[Call | Script | str] = Field(min_length=1)
    heldout_tests: list[Call | Script | str] = Field(min_length=1)
    canonical_solution: str
    program: str

    @model_validator(mode="after")
    def _calls_or_scripts(self) -> "Request":
        tests = [*self.tests, *self.heldout_tests]
        scripts = sum(isinstance(test, Script) for test in tests)
        if scripts and (scripts < len(tests) or self.mode != GT_ONLY or self.entry_point):
            raise ValueError(f"a task with standard input has no other tests, no entry point, and the mode {GT_ONLY}")
        if not scripts and not self.entry_point:
            raise ValueError("found no entry_point, which tests that are calls need")
        if lacking := [test for test in tests if isinstance(test, Call) and "expected" not in test.model_fields_set and not self.checker]:
            raise ValueError(f"found a test without 'expected' in a task without a checker: {lacking[0].model_dump_json()[:200]}")
        return self

    def rows(self, tests: Sequence[Call | Script | str]) -> str:
        """JSON of the tests as their tables have them. Raises ValueError for an assert string that cannot be read."""
        parsed = [parse_assert(test, self.entry_point) if isinstance(test, str) else test.model_dump() for test in tests]
        text = json.dumps([test | {"checker": self.checker} for test in parsed] if self.checker else parsed)
        load_tests(text)
        return text


class Read(NamedTuple):
    """A line that is a request, with its rows of the tables problems and ground_truth."""

    request: Request
    problem: dict
    truth: dict
    task: bytes  # equal for requests with one task


def answer(lines: Iterable[bytes], sandbox: Sandbox) -> Iterator[dict]:
    """For each line, in order, its answer as docs/grading.md describes it. The lines that are there are graded together, and answered when
    all of them are. A blank line has no answer.

    A line that is no request, or whose task is refused, gives {line, error} with its number from 1, and the others are still
    graded. What the machine failed to run has null in place of reward, env_passed, gt_correct, exploited and pass_rate.
    """
    known: dict[bytes, str | None] = {}  # task -> why it is refused
    for batch in _batches(lines):
        read = [_read(text, number) for number, text in batch]
        _try_tasks([found for found in read if isinstance(found, Read)], known, sandbox)
        graded = iter(_grade([found for found in read if isinstance(found, Read) and known[found.task] is None], sandbox))
        for found, (number, _) in zip(read, batch):
            if not isinstance(found, Read):
                yield {"line": number, "error": found}
            elif why := known[found.task]:
                yield {"line": number, "error": f"the task cannot be graded: {why}"}
            else:
                yield next(graded)
        known = {task: why for task, why in known.items() if not (why or "").startswith(MACHINE)} if len(known) < KNOWN else {}


def _batches(lines: Iterable[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """(number, line) of the lines that are there, without waiting for more, so that a client may ask again when it has its answer."""
    waiting: Queue[tuple[int, bytes] | None] = Queue(BATCH)

    def read() -> None:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    waiting.put((number, line))
        finally:
            waiting.put(None)

    Thread(target=read, daemon=True).start()
    ended = False
    while not ended:
        batch = [waiting.get()]
        with suppress(Empty):
            while len(batch) < BATCH:
                batch.append(waiting.get_nowait())
        ended = batch[-1] is None
        yield [line for line in batch if line is not None]


def _read(text: bytes, number: int) -> Read | str:
    """A request, or what is wrong with the line."""
    try:
        request = Request.model_validate_json(text)
        visible, heldout = request.rows(request.tests), request.rows(request.heldout_tests)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the line"
        return f"{key}: {first['msg']}"
    except (ValueError, RecursionError) as error:
        return str(error)
    name = {"problem_id": str(number)}
    problem = name | {"setup_code": request.setup_code, "entry_point": request.entry_point, "words": encode_words(TRAINING_WORDS)}
    truth = name | {"heldout_tests": heldout, "canonical_solution": request.canonical_solution}
    task = json.dumps(request.model_dump(exclude={"id", "mode", "program"}), sort_keys=True)
    return Read(request, problem | {"visible_tests": visible}, truth, blake2b(task.encode(), digest_size=16).digest())


def _try_tasks(read: Sequence[Read], known: dict[bytes, str | None], sandbox: Sandbox) -> None:
    """Adds to `known` why each new task is refused; None for one that can be graded."""
    new = {found.task: found for found in read if found.task not in known}
    problems, truths = [found.problem for found in new.values()], [found.truth for found in new.values()]
    known |= zip(new, refusals(problems, truths, sandbox))


def _grade(read: Sequence[Read], sandbox: Sandbox) -> list[dict]:
    programs, problems = [found.request.program for found in read], [found.problem for found in read]
    grades = grade(programs, problems, sandbox)
    verdicts = verdicts_of(programs, problems, [found.truth for found in read], sandbox)
    return [_answer(found.request, *seen) for found, *seen in zip(read, grades, verdicts, strict=True)]


def _answer(request: Request, given: Grade, verdict: Verdict) -> dict:
    judged = given.status not in NOT_JUDGED and verdict.correct is not None
    decided = {
        "reward": given.reward(request.mode) if judged else None,
        "env_passed": given.passed(request.mode),
        "gt_correct": verdict.correct,
        "exploited": given.passed(request.mode) and not verdict.correct,
        "pass_rate": verdict.pass_rate,
    }
    return {
        "id": request.id,
        **(decided if judged else dict.fromkeys(decided)),
        "first_failed_test": given.first_failed,
        "env_status": given.status,
        "monitor_status": verdict.status,
        "channels": sorted(given.channels),
        "cpu_s": given.cpu_s,
        "python": platform.python_version(),
    }
