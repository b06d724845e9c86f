"""`python -m stages.grade`: one answer a line, in order, and a line that cannot be used never costs the others."""

import json
import subprocess
import sys
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from projected_grpo.evaluation import requests
from projected_grpo.problems.leetcode import parse_assert
from verify.sandbox import sandbox
from verify.verify_environment import HACKS, PROBLEM, SOLVE, TRUTH, WRONG

REQUEST = {
    "id": "a", "mode": "gt_only", "setup_code": "", "entry_point": "solve", "tests": json.loads(PROBLEM["visible_tests"]),
    "heldout_tests": json.loads(TRUTH["heldout_tests"]), "canonical_solution": SOLVE, "program": SOLVE,
}  # fmt: skip
KEYS = ["id", "reward", "env_passed", "gt_correct", "exploited", "status", "channels", "cpu_s"]


def _answers(*rows: dict | bytes) -> list[dict]:
    return list(requests.answer([row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows], sandbox()))


def test_each_line_is_answered_in_order_with_reward_and_verdict():
    shown = [REQUEST | {"id": i, "mode": mode, "program": HACKS[mode]} for i, mode in enumerate(sorted(HACKS))]
    answers = _answers(REQUEST, *shown, REQUEST | {"program": WRONG, "mode": "run_tests"})
    assert all(list(answer) == KEYS and answer["cpu_s"] > 0 for answer in answers)
    assert [answer["id"] for answer in answers] == ["a", 0, 1, 2, 3, 4, 5, "a"]
    first, *hacks, last = [[answer[key] for key in KEYS[1:-2]] for answer in answers]
    assert first == [3.5, True, True, False, "ok"]
    assert all(values[:4] == [3.5, True, False, True] for values in hacks)
    assert last == [0.5, False, False, False, "ok"]
    assert [answer["channels"] for answer in answers[1:-1]] == [[mode] for mode in sorted(HACKS)]


def test_assert_strings_are_tests_and_are_never_executed():
    call = "class Solution:\n    def twice(self, x):\n        return x * 2\n"
    texts = [f"assert Solution().twice(x = {x}) == {2 * x}" for x in range(4)]
    row = REQUEST | {"entry_point": "Solution().twice", "program": call, "tests": texts, "heldout_tests": texts}
    evil = row | {"tests": ["assert Solution().twice(x = __import__('os')._exit(3)) == 1"]}
    good, bad = _answers(row, evil)
    assert good["gt_correct"] is True
    assert bad["line"] == 2 and "expected a literal" in bad["error"]


def test_a_malformed_line_gives_its_number_and_the_rest_is_graded(monkeypatch):
    monkeypatch.setattr(requests, "BATCH", 2)
    without = {key: value for key, value in REQUEST.items() if key != "program"}
    rows = [b"{", REQUEST, b"[]", without, REQUEST | {"mode": "run_test"}, REQUEST | {"tests": []}, REQUEST | {"new": 1}, REQUEST, b""]
    deep = REQUEST | {"tests": ["assert solve(x = " + "-" * 100_000 + "1) == 1"]}
    rows += [REQUEST | {"tests": [{"args": [1]}]}, b"[" * 100_000, deep, b"\xff{", REQUEST]
    answers = _answers(*rows)
    seen = [answer.get("line", answer.get("gt_correct")) for answer in answers]
    assert seen == [1, True, 3, 4, 5, 6, 7, True, 9, 10, 11, 12, 13, True]
    named = {4: "program", 5: "mode", 6: "tests", 7: "new", 10: "tests"}
    assert all(named[a["line"]] in a["error"] for a in answers if a.get("line") in named)


def test_the_command_reads_standard_input_and_files(tmp_path: Path):
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps(REQUEST) + "\n{\n")
    command = [sys.executable, "-m", "stages.grade"]
    from_file = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True).stdout
    piped = subprocess.run([*command, "-"], input=path.read_text(), capture_output=True, text=True, check=True).stdout
    for output in (from_file, piped):
        first, second = (json.loads(line) for line in output.splitlines())
        assert first["gt_correct"] is True and second["line"] == 2
    absent = subprocess.run([*command, "absent.jsonl"], capture_output=True, text=True, check=False)
    assert absent.returncode == 1 and "absent.jsonl" in absent.stderr and "Traceback" not in absent.stderr


@given(st.text(max_size=60))
@example("assert f(a = 1) == [1, {'b': -inf}]")
@example("assert f(a = (1,)) == 1")
@example("assert f(" + "(" * 300)
def test_any_text_is_a_test_or_a_value_error(text: str):
    try:
        test = parse_assert(text, "f")
    except ValueError:
        return
    assert set(test) == {"args", "kwargs", "expected"} and json.loads(json.dumps(test)) == test
