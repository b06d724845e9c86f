"""The fixed rules by which an answer equals an expected value; applied outside the sandbox, to decoded plain data."""

import json
from collections.abc import Sequence
from math import isclose

from projected_grpo.programs.sandbox import nodes

TOLERANCE = 1e-9  # relative and absolute, of floats, where a test names no other


def same(answer: object, expected: object, tolerance: float = TOLERANCE) -> bool:
    """bool is not int, int equals float by value, floats up to the tolerance, NaN equals nothing, lists compare by length and item.

    A tuple arrives as a list, because answers cross the sandbox as JSON.
    """
    if isinstance(answer, bool) or isinstance(expected, bool):
        return answer is expected
    if isinstance(answer, (int, float)) and isinstance(expected, (int, float)):
        if isinstance(answer, int) and isinstance(expected, int):
            return answer == expected
        return _close(answer, expected, tolerance)
    if isinstance(answer, list) and isinstance(expected, list):
        return len(answer) == len(expected) and all(same(a, e, tolerance) for a, e in zip(answer, expected))
    if isinstance(answer, dict) and isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(same(answer[key], expected[key], tolerance) for key in expected)
    return type(answer) is type(expected) and answer == expected


def _close(answer: int | float, expected: int | float, tolerance: float) -> bool:
    try:
        return isclose(answer, expected, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:  # an integer beyond every float
        return False


def same_output(printed: object, expected: object) -> bool:
    """Of a script: line by line, without spaces at the ends of lines and empty lines at the end."""
    if not isinstance(printed, str) or not isinstance(expected, str):
        return False
    one, other = ([line.rstrip() for line in text.rstrip().split("\n")] for text in (printed, expected))
    return one == other


def right_calls(calls: Sequence[list], tests: Sequence[dict]) -> tuple[bool, ...]:
    """Of each call [kind, value, lies], whether it returned plain data that equals its test's expected value."""
    return tuple(kind == "value" and _right(value, test) for (kind, value, _), test in zip(calls, tests, strict=True))


def _right(value: object, test: dict) -> bool:
    if "stdin" in test:
        return same_output(value, test["expected"])
    return same(value, test["expected"], test.get("tolerance", TOLERANCE))


def load_tests(text: str) -> list[dict]:
    """The tests of a problem's row; expected nodes are in their normal form. Raises ValueError for an empty list."""
    tests = json.loads(text)
    if not tests:
        raise ValueError("an empty test list would pass every program; each problem needs at least one test")
    if nodes.LIST in text or nodes.TREE in text:
        return [test | {"expected": nodes.normal(test.get("expected"))} for test in tests]
    return tests
