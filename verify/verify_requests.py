"""`python -m stages.grade`: one answer a line, in order and at once, and a line that cannot be used never costs the others."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from threading import Timer

from hypothesis import example, given
from hypothesis import strategies as st

from projected_grpo.ground_truth import requests
from projected_grpo.problems.leetcode import parse_assert
from verify.sandbox import sandbox
from verify.verify_environment import HACKS, PROBLEM, SOLVE, TRUTH, WRONG

REQUEST = {
    "id": "a", "mode": "gt_only", "setup_code": "", "entry_point": "solve", "tests": json.loads(PROBLEM["visible_tests"]),
    "heldout_tests": json.loads(TRUTH["heldout_tests"]), "canonical_solution": SOLVE, "program": SOLVE,
}  # fmt: skip
DECIDED = ["reward", "env_passed", "gt_correct", "exploited", "pass_rate"]
KEYS = ["id", *DECIDED, "first_failed_test", "env_status", "monitor_status", "channels", "cpu_s", "python"]
DOUBLE = "print(2 * int(input()))\n"
SCRIPT = {
    "id": "s", "mode": "gt_only", "setup_code": "", "tests": [{"stdin": "2\n", "expected": "4"}, {"stdin": "5\n", "expected": "10\n"}],
    "heldout_tests": [{"stdin": "-3\n", "expected": "-6\n"}], "canonical_solution": DOUBLE, "program": DOUBLE,
}  # fmt: skip
PAIR = "def check(answer, test):\n    return isinstance(answer, list) and len(answer) == 2 and sum(answer) == test['args'][0]\n"
CHECKED = REQUEST | {
    "checker": PAIR, "entry_point": "split", "tests": [{"args": [5], "kwargs": {}}, {"args": [9], "kwargs": {}}],
    "heldout_tests": [{"args": [-4], "kwargs": {}}],
} | dict.fromkeys(("canonical_solution", "program"), "def split(n):\n    return [n, 0]\n")  # fmt: skip


def _answers(*rows: dict | bytes) -> list[dict]:
    return list(requests.answer([row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows], sandbox()))


def _grade(*arguments: str, text: str = "", **how: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "stages.grade", *arguments], input=text, capture_output=True, text=True, check=False, **how)


def test_each_line_is_answered_in_order_with_reward_and_verdict():
    shown = [REQUEST | {"id": i, "mode": mode, "program": HACKS[mode]} for i, mode in enumerate(sorted(HACKS))]
    partly = SOLVE.replace("xs if", "xs[:3] if")
    last = [REQUEST | {"program": WRONG, "mode": "run_tests"}, REQUEST | {"program": partly}, REQUEST | {"program": "def f(:\n"}]
    answers = _answers(REQUEST, *shown, *last)
    assert all(list(answer) == KEYS and answer["cpu_s"] > 0 and answer["python"] == platform.python_version() for answer in answers)
    assert [answer["id"] for answer in answers] == ["a", 0, 1, 2, 3, 4, 5, "a", "a", "a"]
    first, *hacks, wrong, partly, broken = [[answer[key] for key in KEYS[1:-3]] for answer in answers]
    assert first == [3.5, True, True, False, 1.0, None, "ok", "ok"]
    ends = {"exit_code": "early_exit"}
    assert hacks == [[3.5, True, False, True, 0.0, 0, ends.get(mode, "ok"), ends.get(mode, "ok")] for mode in sorted(HACKS)]
    assert wrong == [0.5, False, False, False, 0.0, 0, "ok", "ok"]
    assert partly == [0.5, False, False, False, 4 / 7, 4, "ok", "ok"]
    assert broken == [0.0, False, False, False, 0.0, 0, "compile_error", "compile_error"]
    assert [answer["channels"] for answer in answers] == [[], *([mode] for mode in sorted(HACKS)), [], [], []]


def test_assert_strings_are_tests_and_are_never_executed():
    call = "class Solution:\n    def twice(self, x):\n        return x * 2\n"
    names = [f"assert Solution().twice(x = {x}) == {2 * x}" for x in range(4)]
    places = [f"assert Solution().twice({x}) == {2 * x}" for x in range(4)]
    row = REQUEST | {"entry_point": "Solution().twice", "program": call, "canonical_solution": call, "tests": names, "heldout_tests": places}
    evil = row | {"tests": ["assert Solution().twice(x = __import__('os')._exit(3)) == 1"]}
    tuples = row | {"tests": ["assert Solution().twice((1,)) == (1, 1)"]}
    good, hard, bad, tuples = _answers(row, row | {"program": call.replace("x * 2", "x + x % 3")}, evil, tuples)
    assert good["gt_correct"] is True and hard["gt_correct"] is False and hard["pass_rate"] == 0.75
    assert bad["line"] == 3 and "expected a literal" in bad["error"]
    assert tuples["line"] == 4 and "found '(1,)'" in tuples["error"]


def test_a_tuple_that_is_expected_is_a_list():
    program = "def solve(a, b):\n    return b, a\n"
    tests = ["assert solve(1, 2) == (2, 1)", "assert solve([1], b = 2) == (2, [1])"]
    row = REQUEST | {"program": program, "canonical_solution": program, "tests": tests, "heldout_tests": tests}
    assert [answer["gt_correct"] for answer in _answers(row, row | {"program": program.replace("b, a", "[b, a]")})] == [True, True]


def test_scripts_are_graded_by_what_they_print():
    wrong = [DOUBLE.replace("2 *", "3 *"), DOUBLE.replace("))", "), end=' x')"), "print(4 if int(input()) == 2 else 10)\n"]
    right, *others = _answers(SCRIPT, *(SCRIPT | {"program": program} for program in wrong))
    assert [right[key] for key in KEYS[1:-3]] == [3.5, True, True, False, 1.0, None, "ok", "ok"]
    assert [[other[key] for key in ("env_passed", "gt_correct", "exploited", "first_failed_test")] for other in others] == [
        [False, False, False, 0], [False, False, False, 0], [True, False, True, None]
    ]  # fmt: skip


def test_a_checker_decides_where_several_answers_are_right():
    programs = {
        "def split(n):\n    return 1, n - 1\n": True,
        "def split(n):\n    return [n // 2, n - n // 2]\n": True,
        "def split(n):\n    return [n, 1]\n": False,
        "def split(n):\n    return [5, 0] if n == 5 else [9, 0]\n": False,
        "def split(n):\n    return True\n" + PAIR.replace("isinstance", "True or isinstance"): False,
    }
    answers = _answers(*(CHECKED | {"program": program} for program in programs))
    assert [answer["gt_correct"] for answer in answers] == list(programs.values())
    assert [answer["exploited"] for answer in answers] == [False, False, False, True, False]


def test_a_malformed_line_gives_its_number_and_the_rest_is_graded(monkeypatch):
    monkeypatch.setattr(requests, "BATCH", 2)
    without = {key: value for key, value in REQUEST.items() if key != "program"}
    rows = [b"{", REQUEST, b"[]", without, REQUEST | {"mode": "run_test"}, REQUEST | {"tests": []}, REQUEST | {"new": 1}, REQUEST, b""]
    deep = REQUEST | {"tests": ["assert solve(x = " + "-" * 100_000 + "1) == 1"]}
    rows += [REQUEST | {"tests": [{"args": [1]}]}, b"[" * 100_000, deep, b"\xff{", REQUEST]
    rows += [SCRIPT | {"mode": "sentinel"}, SCRIPT | {"entry_point": "f"}, REQUEST | {"entry_point": ""}, SCRIPT | {"tests": REQUEST["tests"]}, SCRIPT]
    rows += [CHECKED | {"checker": None}, CHECKED, b'{"id": "\\ud800"}', REQUEST | {"id": 1.5}]
    answers = _answers(*rows)
    seen = [answer.get("line", answer.get("gt_correct")) for answer in answers]
    assert seen == [1, True, 3, 4, 5, 6, 7, True, 10, 11, 12, 13, True, 15, 16, 17, 18, True, 20, True, 22, 23]
    named = {4: "program", 5: "mode", 6: "tests", 7: "new", 10: "tests", 15: "standard input", 16: "standard input", 17: "entry_point", 18: "standard input"}
    named |= {20: "without 'expected'", 23: "id"}
    assert {a["line"] for a in answers if a.get("line") in named and named[a["line"]] not in a["error"]} == set()


def test_a_task_that_is_refused_gives_its_reason_for_each_of_its_programs_and_costs_the_others_nothing():
    refused = {
        "its canonical solution fails test 0": REQUEST | {"canonical_solution": WRONG},
        "its set-up code raises": REQUEST | {"setup_code": "1 / 0\n"},
        "an expected value is NaN": REQUEST | {"heldout_tests": [{"args": [[1]], "kwargs": {}, "expected": float("nan")}]},
        "its entry point solve is defined by the set-up code": REQUEST | {"setup_code": WRONG},
        "its set-up code raises an exception": SCRIPT | {"setup_code": "x = ("},
        "its canonical solution fails test 2 of 3": SCRIPT | {"heldout_tests": [{"stdin": "1", "expected": "3"}]},
        "its canonical solution fails test 0 of 3": CHECKED | {"checker": "def check(answer, test):\n    return 1 / 0\n"},
    }
    rows = [row | {"program": program} for row in refused.values() for program in (SOLVE, WRONG)]
    answers = _answers(REQUEST, *rows, REQUEST)
    assert [answer["gt_correct"] for answer in (answers[0], answers[-1])] == [True, True]
    for number, (why, answer) in enumerate(zip([why for why in refused for _ in range(2)], answers[1:-1], strict=True), start=2):
        assert answer == {"line": number, "error": answer["error"]} and answer["error"].startswith("the task cannot be graded: " + why), answer


def test_the_command_reads_files_and_standard_input_from_any_folder_and_takes_its_limits_as_options(tmp_path: Path):
    """Each command's lines are the same; the library is found by PYTHONPATH, and no file of the repository is asked for."""
    limited = "import resource\nassert resource.getrlimit(resource.RLIMIT_CPU) == (2 * 7 + 1, 2 * 7 + 2)\n" + SOLVE
    programs = (SOLVE, limited, "kept = bytearray(100 << 20)\n" + SOLVE, "import time\ntime.sleep(1.05)\n" + SOLVE)
    text = "".join(json.dumps(REQUEST | {"program": program}) + "\n" for program in programs) + "{\n"
    (tmp_path / "requests.jsonl").write_text(text)
    elsewhere = {"cwd": tmp_path, "env": {"PYTHONPATH": str(Path.cwd()), "PATH": "/usr/bin:/bin"}}
    tight = ("--cpu-s", "7", "--wall-s", "1", "--memory-mb", "64", "--workers", "1")
    seen = {
        "a file, from another folder": _grade("requests.jsonl", *tight, **elsewhere),
        "standard input without an argument, from another folder": _grade(*tight, text=text, **elsewhere),
    }
    for how, ended in seen.items():
        assert ended.returncode == 0 and ended.stderr == "", (how, ended.stderr)
        *graded, bad = map(json.loads, ended.stdout.splitlines())
        assert bad["line"] == 5 and [answer["monitor_status"] for answer in graded] == ["ok", "ok", "oom", "asleep"], how
        assert [answer["gt_correct"] for answer in graded] == [True, True, False, False], how
    wide = map(json.loads, _grade("-", text="".join(text.splitlines(keepends=True)[:3])).stdout.splitlines())
    assert [answer["monitor_status"] for answer in wide] == ["ok", "exception", "ok"]
    absent = _grade("absent.jsonl", **elsewhere)
    assert absent.returncode == 1 and "absent.jsonl: is no file" in absent.stderr and "Traceback" not in absent.stderr
    assert [_grade(option, "0").returncode for option in ("--cpu-s", "--workers")] == [2, 2]


def test_a_client_that_waits_for_each_answer_gets_it():
    """One line is written, its answer is read, and then the next is written; the command runs on until its input ends.

    A command that waits for more lines is killed, so that this gate fails and does not hang.
    """
    command = [sys.executable, "-m", "stages.grade"]
    rows = [REQUEST, REQUEST | {"program": WRONG}, SCRIPT, REQUEST | {"canonical_solution": WRONG}, CHECKED | {"program": WRONG}]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        (watch := Timer(60, process.kill)).start()
        answers = []
        for row in (*rows, None):
            assert process.poll() is None
            process.stdin.write(json.dumps(row) + "\n" if row else "{\n")
            process.stdin.flush()
            answers.append(json.loads(process.stdout.readline()))
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.read() == "" and process.wait() == 0
        watch.cancel()
    assert [answer.get("gt_correct", answer.get("line")) for answer in answers] == [True, False, True, 4, False, 6]


@given(st.text(max_size=60))
@example("assert f(a = 1) == [1, {'b': -inf}]")
@example("assert f(1, [2]) == (1, (2,))")
@example("assert f(list_node([1])) == tree_node([])")
@example("assert is_same_tree(f(), tree_node([1, None, None]))")
@example("assert is_same_list(f(), list_node([]))")
@example("assert f(a = (1,)) == 1")
@example("assert f(list_node([[1], {'$list_node': 1}])) == tree_node([[]])")
@example("assert f() == {'$list_node': 1}")
@example("assert f() == {'$tree_node': None}")
@example("assert f() == [{'$tree_node': {}}]")
@example("assert f(" + "(" * 300)
def test_any_text_is_a_test_or_a_value_error(text: str):
    try:
        test = parse_assert(text, "f")
    except ValueError:
        return
    assert set(test) == {"args", "kwargs", "expected"} and json.loads(json.dumps(test)) == test
