"""The fixed rules by which an answer equals an expected value; applied outside the sandbox, to decoded plain data."""

import json


def same(answer: object, expected: object) -> bool:
    """bool is not int, int equals float by value, NaN equals nothing, lists compare by length and item.

    A tuple arrives as a list, because answers cross the sandbox as JSON.
    """
    if isinstance(answer, bool) or isinstance(expected, bool):
        return answer is expected
    if isinstance(answer, (int, float)) and isinstance(expected, (int, float)):
        return answer == expected
    if isinstance(answer, list) and isinstance(expected, list):
        return len(answer) == len(expected) and all(same(a, e) for a, e in zip(answer, expected))
    if isinstance(answer, dict) and isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(same(answer[key], expected[key]) for key in expected)
    return type(answer) is type(expected) and answer == expected


def all_same(calls: tuple, tests: list[dict]) -> bool:
    """Whether every call returned plain data that equals its test's expected value. Raises ValueError without tests."""
    return share_same(calls, tests) == 1.0


def share_same(calls: tuple, tests: list[dict]) -> float:
    """The share of tests that were answered right; 0 where the number of answers is another than that of the tests."""
    if len(calls) != len(_some(tests)):
        return 0.0
    right = [kind == "value" and same(value, test["expected"]) for (kind, value, _), test in zip(calls, tests)]
    return sum(right) / len(tests)


def load_tests(text: str) -> list[dict]:
    """The tests of a problem's row. Raises ValueError for an empty list."""
    return _some(json.loads(text))


def _some(tests: list[dict]) -> list[dict]:
    if not tests:
        raise ValueError("an empty test list would pass every program; each problem needs at least one test")
    return tests
