"""Programs to be graded that arrive as JSON lines, for users who want the environment without the training."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from projected_grpo.env.grader import grade
from projected_grpo.env.modes import GT_ONLY, MODES, TRAINING_WORDS, encode_words
from projected_grpo.env.oracle import judge
from projected_grpo.env.sandbox.runner import NOT_JUDGED, Sandbox
from projected_grpo.problems.leetcode import parse_assert

BATCH = 256  # lines held at a time, so memory does not grow with the input


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Test(Line):
    args: list
    kwargs: dict[str, Any]
    expected: Any


class Request(Line):
    """Tests are {args, kwargs, expected}, or assert strings, which are read as literals and never executed."""

    id: str | int
    mode: Literal[(*MODES, GT_ONLY)]
    setup_code: str
    entry_point: Annotated[str, Field(min_length=1)]
    tests: Annotated[list[Test | str], Field(min_length=1)]
    heldout_tests: Annotated[list[Test | str], Field(min_length=1)]
    canonical_solution: str
    program: str


def answer(lines: Iterable[bytes], sandbox: Sandbox) -> Iterator[dict]:
    """For each line, in order, {id, reward, env_passed, gt_correct, exploited, status, channels, cpu_s}.

    A line that is no request gives {line, error} with its number from 1, and the others are still graded. What the
    machine failed to run has null in place of reward, env_passed, gt_correct and exploited.
    """
    numbered = enumerate(lines, start=1)
    while batch := list(islice(numbered, BATCH)):
        read = [_read(text, number) for number, text in batch]
        graded = iter(_grade([rows for rows in read if "error" not in rows], sandbox))
        yield from (rows if "error" in rows else next(graded) for rows in read)


def _read(text: bytes, number: int) -> dict:
    """{request, problem, truth}, the latter as rows of the tables problems and ground_truth; or {line, error}."""
    try:
        request = Request.model_validate_json(text)
        visible, heldout = (_tests(tests, request.entry_point) for tests in (request.tests, request.heldout_tests))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the line"
        return {"line": number, "error": f"{key}: {first['msg']}"}
    except (ValueError, RecursionError) as error:
        return {"line": number, "error": str(error)}
    name = str(number)
    problem = {"problem_id": name, "setup_code": request.setup_code, "entry_point": request.entry_point}
    truth = {"problem_id": name, "heldout_tests": heldout, "canonical_solution": request.canonical_solution}
    problem |= {"words": encode_words(TRAINING_WORDS), "visible_tests": visible}
    return {"request": request, "problem": problem, "truth": truth}


def _tests(tests: list[Test | str], entry_point: str) -> str:
    rows = [parse_assert(test, entry_point) if isinstance(test, str) else test.model_dump() for test in tests]
    return json.dumps(rows)


def _grade(read: list[dict], sandbox: Sandbox) -> list[dict]:
    programs, problems = [rows["request"].program for rows in read], [rows["problem"] for rows in read]
    grades = grade(programs, problems, sandbox)
    verdicts = judge(programs, problems, [rows["truth"] for rows in read], sandbox)
    answers = []
    for rows, given, verdict in zip(read, grades, verdicts, strict=True):
        mode, failed = rows["request"].mode, given.status in NOT_JUDGED or verdict.correct is None
        answers.append(
            {
                "id": rows["request"].id,
                "reward": None if failed else given.reward(mode),
                "env_passed": None if failed else given.passed(mode),
                "gt_correct": None if failed else verdict.correct,
                "exploited": None if failed else given.passed(mode) and not verdict.correct,
                "status": given.status if given.status in NOT_JUDGED else verdict.status,
                "channels": sorted(given.channels),
                "cpu_s": given.cpu_s,
            }
        )
    return answers
