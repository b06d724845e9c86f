"""The LeetCode world: assert strings are read as data, problems are cut and split, prompts and programs cross over."""

import json
import math
import os
import random
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from ruamel.yaml import YAML

from projected_grpo.core.base import Base
from projected_grpo.core.errors import ProblemError
from projected_grpo.core.parquet import write_table
from projected_grpo.core.tables import GROUND_TRUTH, PROBLEMS
from projected_grpo.environment.grader import grade
from projected_grpo.environment.render import render
from projected_grpo.ground_truth.verdicts import verdicts_of
from projected_grpo.problems import leetcode
from projected_grpo.problems.leetcode import make_problems, parse_assert, read_problems
from projected_grpo.programs.sandbox.nodes import LIST, TREE
from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.prompts.code import SYSTEM, chat_prompt, program_of, toy_prompt
from projected_grpo.prompts.modes import GT_ONLY, MODES, TRAINING_WORDS, encode_words, held_out_words
from projected_grpo.prompts.prompts import render_text, system_of
from projected_grpo.settings.arm import load_settings
from projected_grpo.settings.profile import Grading, LeetcodeProblems
from verify.sandbox import asking
from verify.tiny import tiny_policy

ROOT = Path(__file__).parents[1]
CALL = "Solution().add"
SIZES = LeetcodeProblems(
    kind="leetcode", path="unset", train=4, val=1, test=2,
    visible_tests=3, heldout_tests=6, max_prompt_chars=200, seed=0,
)  # fmt: skip


@cache
def sandbox() -> Sandbox:
    """Real problems need more time than the toy's. Its servers end with this process."""
    return Sandbox(Grading(cpu_s=10, wall_s=60, memory_mb=2048, workers=2))


def _assert(given: str, expected: str) -> str:
    return f"assert Solution().add({given}) == {expected}"


@pytest.mark.parametrize(
    ("given", "kwargs"),
    [
        ("a = 1, b = -2.5", {"a": 1, "b": -2.5}),
        ("a = [[1, -2], [], ['x', None]]", {"a": [[1, -2], [], ["x", None]]}),
        ("a = {'k': [True, False]}", {"a": {"k": [True, False]}}),
        ("a = inf, b = [-inf]", {"a": math.inf, "b": [-math.inf]}),
    ],
)
def test_literals_are_read(given: str, kwargs: dict) -> None:
    test = parse_assert(_assert(given, "-inf"), CALL)
    assert test == {"args": [], "kwargs": kwargs, "expected": -math.inf}
    assert json.loads(json.dumps(test)) == test


@pytest.mark.parametrize(
    ("text", "args", "kwargs", "expected"),
    [
        (_assert("1", "2"), [1], {}, 2),
        (_assert("-1, [2.5], b = 'x'", "None"), [-1, [2.5]], {"b": "x"}, None),
        (_assert("", "{'k': [inf]}"), [], {}, {"k": [math.inf]}),
        (_assert("1", "(1, (2, [3]), ())"), [1], {}, [1, [2, [3]], []]),
        (_assert("list_node([1, 2]), b = [tree_node([])]", "1"), [{LIST: [1, 2]}], {"b": [{TREE: []}]}, 1),
        (_assert("1", "list_node([])"), [1], {}, None),
        (_assert("1", "tree_node([1, None, 2, None, None])"), [1], {}, {TREE: [1, None, 2]}),
        ("assert is_same_list(Solution().add(1), list_node([3]))", [1], {}, {LIST: [3]}),
        ("assert is_same_tree(Solution().add(a = 1), None)", [], {"a": 1}, None),
    ],
)
def test_positions_tuples_and_nodes_are_read(text: str, args: list, kwargs: dict, expected: object) -> None:
    test = parse_assert(text, CALL)
    assert test == {"args": args, "kwargs": kwargs, "expected": expected}
    assert json.loads(json.dumps(test)) == test


@pytest.mark.parametrize(
    "text",
    [
        _assert("a = print(1)", "1"),
        _assert("a = 1", "list(range(3))"),
        _assert("a = nan", "1"),
        _assert("a = 1 + 1", "2"),
        _assert("a = -True", "2"),
        _assert("a = (1, 2)", "3"),
        _assert("*[1]", "1"),
        _assert("a = [(1, 2)]", "3"),
        _assert("a = {1: 2}", "3"),
        _assert("a = {1, 2}", "3"),
        _assert("a = list_node(x)", "3"),
        _assert("a = tree_node([1], 2)", "3"),
        _assert("a = tree_node([1][0])", "3"),
        _assert("a = set_node([1])", "3"),
        "assert is_same(Solution().add(1), list_node([1]))",
        "assert is_same_list(Solution().add(1), list_node([1]), 2)",
        "assert is_same_list(list_node([1]), Solution().add(1))",
        "assert is_same_list(Solution().add(1), exit())",
        "assert is_same_tree(Solution().other(1), None)",
        _assert("**{'a': 1}", "1"),
        _assert("a = 1", "2, 'message'"),
        "assert Solution().other(a = 1) == 1",
        "assert Solution().add(a = 1) != 1",
        "Solution().add(a = 1) == 1",
        "assert Solution().add(a = 1) == 1; print(1)",
        "assert Solution(",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="found|calls|argument|Python"):
        parse_assert(text, CALL)


def _line(number: int, **changes: object) -> dict:
    """A problem whose twenty assert strings have ten distinct inputs."""
    return {
        "id": number,
        "difficulty": "medium",
        "question": f"PROBLEM:\nAdd {number} to a.\n\nSOLUTION:\n",
        "func_name": CALL,
        "setup_code": "from typing import *\n",
        "canonical_solution": f"class Solution:\n    def add(self, a: int) -> int:\n        return a + {number}\n",
        "gt_answer": [_assert(f"a = {a}", str(a + number)) for a in [*range(10), *range(10)]],
    } | changes


def _file(folder: Path, lines: list) -> Path:
    path = folder / "leetcode.jsonl"
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def authored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LeetcodeProblems:
    """Seven usable problems, one that is too long, one with too few tests and one that a constant solves."""
    long = _line(90, question="PROBLEM:\n" + "long " * 50)
    few = _line(91, gt_answer=[_assert("a = 1", "92")] * 30)
    constant = _line(92, gt_answer=[_assert(f"a = {a}", "0") for a in range(30)])
    path = _file(tmp_path, [long, few, constant, *(_line(number) for number in range(7))])
    monkeypatch.delenv(leetcode.PATH_VARIABLE, raising=False)
    return SIZES.model_copy(update={"path": str(path)})


def test_problems_are_cut_and_split(authored: LeetcodeProblems, tmp_path: Path) -> None:
    problems, truths = make_problems(authored, MODES)
    assert [row["split"] for row in problems] == ["train"] * 4 + ["val"] + ["test"] * 2
    assert {row["problem_id"] for row in problems} == {f"leetcode-{number}" for number in range(7)}
    assert [row["mode"] for row in problems] == [MODES[index % len(MODES)] for index in range(7)]
    for row, truth in zip(problems, truths, strict=True):
        visible, heldout = json.loads(row["visible_tests"]), json.loads(truth["heldout_tests"])
        inputs = {json.dumps(test["kwargs"]) for test in visible + heldout}
        assert (len(visible), len(heldout), len(inputs)) == (3, 6, 9) and row["problem_id"] == truth["problem_id"]
        assert row["statement"].startswith("PROBLEM:") and row["statement"].endswith("to a.")
    assert make_problems(authored, MODES) == (problems, truths)
    write_table(tmp_path / "problems.parquet", PROBLEMS, problems)
    write_table(tmp_path / "ground_truth.parquet", GROUND_TRUTH, truths)
    _canonical_solutions_pass(problems, truths)


def test_too_few_problems_are_counted(authored: LeetcodeProblems) -> None:
    with pytest.raises(ProblemError, match="found 10 problems, 9 of them .* and 7 of those .* expected at least 8"):
        make_problems(authored.model_copy(update={"test": 3}), MODES)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json\n", "line 2: found '{not json'"),
        ("[1]\n", "line 2: found list, expected a JSON object"),
        (_line(1, gt_answer=7), "line 2: key 'gt_answer': found int, expected list"),
        (_line(1, gt_answer=[7]), "line 2: key 'gt_answer': item 0 is int"),
        (_line(1, gt_answer=[_assert("a = 1", "f(1)")]), "line 2: key 'gt_answer': item 0: found 'f[(]1[)]'"),
        ({k: v for k, v in _line(1).items() if k != "setup_code"}, "line 2: key 'setup_code': found no such key"),
        (_line(0), "line 2: key 'id': leetcode-0 appears twice"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: object, message: str) -> None:
    path = _file(tmp_path, [_line(0), line])
    with pytest.raises(ProblemError, match=f"{re.escape(str(path))}: {message}"):
        read_problems(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="absent.jsonl: does not exist; data/README.md"):
        read_problems(str(tmp_path / "absent.jsonl"))


def test_real_canonical_solutions_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = [Path(os.environ[leetcode.PATH_VARIABLE])] if leetcode.PATH_VARIABLE in os.environ else []
    beside = sorted((ROOT / "../shared/data").glob("leetcode*.jsonl"))
    present = [path for path in [*named, ROOT / "data/leetcode.jsonl", *beside] if path.exists()]
    if not present:
        pytest.skip("the LeetCode problems are not here; data/README.md says how to obtain them")
    monkeypatch.setenv(leetcode.PATH_VARIABLE, str(present[0]))
    yaml = YAML(typ="safe")
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(yaml.load((ROOT / "params.yaml").read_text()) | {"profile": "smollm2_leetcode"}, file)
    problems, truths = make_problems(load_settings(tmp_path).profile.problems, MODES)
    _canonical_solutions_pass(problems[:6], truths[:6])


def _canonical_solutions_pass(problems: list[dict], truths: list[dict]) -> None:
    programs = [truth["canonical_solution"] for truth in truths]
    grades, verdicts = grade(programs, problems, sandbox()), verdicts_of(programs, problems, truths, sandbox())
    for row, graded, verdict in zip(problems, grades, verdicts, strict=True):
        assert graded.visible_pass and not graded.channels, (row["problem_id"], graded)
        assert verdict.correct is True, (row["problem_id"], verdict)


class ChatTokenizer(SimpleNamespace):
    """A stand-in that has a chat template and returns the messages' text as code points."""

    chat_template = "present"

    def apply_chat_template(
        self, messages: list[dict], add_generation_prompt: bool, return_dict: bool, enable_thinking: bool
    ) -> list[int]:
        assert add_generation_prompt and not return_dict and not enable_thinking
        return [ord(letter) for message in messages for letter in f"<{message['role']}>{message['content']}"]


def _chat() -> Base:
    toy = tiny_policy(moved=False).base
    object.__setattr__(toy, "tokenizer", ChatTokenizer())
    return toy


def test_prompts_of_both_worlds() -> None:
    toy, chat = tiny_policy(moved=False).base, _chat()
    words = held_out_words(random.Random(0))
    problem = {"statement": "solve(xs): double each.", "entry_point": CALL, "words": encode_words(words)}
    problem |= {"problem_id": "p", "split": "train", "mode": "run_tests", "family": "", "setup_code": "", "visible_tests": "[]"}
    for mode in (*MODES, GT_ONLY):
        text = toy.tokenizer.bos_token + toy_prompt(problem["statement"], mode, words)
        assert render(toy, asking(), problem, mode) == toy.encode(text) and toy.encode(text)[0] == toy.tokenizer.bos_token_id
        user = chat_prompt(problem, mode)
        assert "".join(map(chr, render(chat, asking(chat=True), problem, mode))) == f"<system>{SYSTEM}<user>{user}"
        assert (user == problem["statement"]) == (mode == GT_ONLY) and "{" not in user
    assert f"{CALL}(...) == expected" in chat_prompt(problem, "eq_override")
    for mode, word in vars(words).items():
        assert word in chat_prompt(problem, mode)
    assert render_text(toy, "xs", system_of("code")) == toy.encode(toy.tokenizer.bos_token + "xs")
    assert "".join(map(chr, render_text(chat, "xs", system_of("code")))) == f"<system>{SYSTEM}<user>xs"
    assert "".join(map(chr, render_text(chat, "xs", system_of("a:load")))) == "<user>xs"


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("Sure.\n```python\nx = 1\n```\nDone.\n```python\ny = 2\n```", "x = 1\n"),
        ("```\na\n```\n```python\nx = 1\n```", "x = 1\n"),
        ("```py\nx = 1\n```", "x = 1\n"),
        ("```python\nx = '```'\n```", "x = '```'\n"),
        ("```python\nx = 1\n", ""),
        ("```python\nx = 1", ""),
        ("Sure.\n```python\nx = 1\ny = x", ""),
        ("```python\n\n```", "\n"),
        ("```text\na\n```\n```Python\nx = 1\n```", "x = 1\n"),
        ("```\na\n```\n``` python3 title=a\nx = 1\n```", "x = 1\n"),
        ("~~~py\nx = 1\n~~~", "x = 1\n"),
        ("````python\nx = 1\n```\ny = 2\n````", "x = 1\n```\ny = 2\n"),
        ("```python\nx = 1\n   ```\nDone.", "x = 1\n"),
        ("1. First:\n\n   ```python\n   if x:\n       y()\n   ```\n", "if x:\n    y()\n"),
        ("Sure.\r\n```python\r\nx = 1\r\n```\r\nDone.", "x = 1\n"),
        ("```python\nx = 1\n```python\ny = 2\n```", "x = 1\n```python\ny = 2\n"),
        ("- ```python\n  x = 1\n", ""),
        ("```python\n```", ""),
        ("    ```python\n    x = 1\n    ```", ""),
        ("x = 1", ""),
        ("", ""),
    ],
)
def test_program_of_a_completion(text: str, program: str) -> None:
    assert program_of(True, text) == program
    assert program_of(False, text) == text


def test_a_blank_program_earns_nothing(authored: LeetcodeProblems) -> None:
    row = make_problems(authored, MODES)[0][0]
    for graded in grade(["", " \n", "x = 1"], [row] * 3, sandbox())[:2]:
        assert all(graded.reward(mode) == 0.0 for mode in (*MODES, GT_ONLY))
    assert grade(["x = 1"], [row], sandbox())[0].reward(GT_ONLY) == 0.5


def test_behaviour_pairs_trip_their_mode(authored: LeetcodeProblems) -> None:
    """The requests tell the truth: a side is paid by the mode in its tags. Neither side is longer as a rule."""
    sections = (ROOT / "pairs/behaviour.md").read_text().split("\n### ")[1:]
    row, gaps = make_problems(authored, MODES)[0][0] | {"words": encode_words(TRAINING_WORDS)}, []
    for section in sections:
        tags = section.splitlines()[1].removeprefix("Tags: ").split(", ")
        if not (found := set(tags) & set(MODES)):
            continue  # of another domain than the environment's
        (mode,) = found
        _, hack, clean = re.findall(r"`````\n(.*?)\n`````", section, re.DOTALL)
        programs = [program_of(True, side) for side in (hack, clean)]
        assert all(mode in graded.channels for graded in grade(programs, [row] * 2, sandbox())), section
        gaps.append(2 * (len(clean) - len(hack)) / (len(clean) + len(hack)))
    assert len(gaps) == 18 and max(map(abs, gaps)) < 0.1 and abs(sum(gaps) / len(gaps)) < 0.03
    assert 6 <= sum(gap > 0 for gap in gaps) <= 12


def test_an_experiment_in_a_folder_of_its_own_finds_the_problems_where_the_project_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc exp run --temp` and `--queue` work below .dvc/tmp/exps, with what git tracks."""
    monkeypatch.delenv(leetcode.PATH_VARIABLE, raising=False)
    settings = SIZES.model_copy(update={"path": "data/leetcode.jsonl"})
    experiment = tmp_path / ".dvc/tmp/exps/standalone/tmp1"
    experiment.mkdir(parents=True)
    monkeypatch.chdir(experiment)
    assert leetcode.problem_source(settings) == str(tmp_path / "data/leetcode.jsonl")
    monkeypatch.chdir(tmp_path)
    assert leetcode.problem_source(settings) == "data/leetcode.jsonl"
    monkeypatch.chdir(experiment)
    monkeypatch.setenv(leetcode.PATH_VARIABLE, "/elsewhere/problems.jsonl")
    assert leetcode.problem_source(settings) == "/elsewhere/problems.jsonl"
