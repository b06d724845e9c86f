"""The authored problems: solutions solve them, wrong solutions do not, constants pass nothing, and every file is readable."""

import ast
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from projected_grpo.core.errors import ProblemError
from projected_grpo.environment.grader import grade
from projected_grpo.ground_truth.own_tests import STUB_ANSWERS, stub
from projected_grpo.ground_truth.verdicts import verdicts_of
from projected_grpo.problems.authored import ProblemFile, canonical_solutions, make_problems, read_problems
from projected_grpo.problems.demonstrations import chat_demonstrations
from projected_grpo.prompts.code import program_of
from projected_grpo.prompts.modes import MODES
from projected_grpo.settings.profile import AuthoredProblems
from verify.sandbox import sandbox
from verify.verify_demonstrations import check_pool

FOLDER = Path("data/problems")
TIERS = (FOLDER, FOLDER / "easy")
MAX_CHARS = 1240  # about 500 tokens with the system message and the hint


@cache
def files(folder: Path = FOLDER) -> dict[str, ProblemFile]:
    return read_problems(folder)


def settings(path: Path = FOLDER, **sizes: int) -> AuthoredProblems:
    """All problems, unless sizes are given."""
    splits = {"train": len(files(path)) - 31, "val": 7, "test": 24} | sizes
    return AuthoredProblems(kind="authored", path="data/problems", seed=0, **splits).model_copy(update={"path": str(path)})


@cache
def rows(folder: Path = FOLDER) -> tuple[list[dict], list[dict]]:
    return make_problems(settings(folder), MODES)


@pytest.fixture(params=TIERS, ids=str)
def tier(request) -> Path:
    return request.param


def _given(tests: list) -> list[str]:
    return [json.dumps(test.args, sort_keys=True) for test in tests]


def test_there_are_many_distinct_problems_on_many_topics() -> None:
    topics = Counter(problem.topic for problem in files().values())
    assert len(files()) >= 80 and len(topics) >= 12 and min(topics.values()) >= 5
    assert set(Counter(problem.difficulty for problem in files().values())) == {"easy", "medium"}
    assert len({problem.solution for problem in files().values()}) == len(files())
    words = {name: set(re.findall(r"[a-z]+", problem.statement.lower())) for name, problem in files().items()}
    overlap = {(a, b): len(words[a] & words[b]) / len(words[a] | words[b]) for a in words for b in words if a < b}
    assert max(overlap.values()) < 0.5, max(overlap, key=overlap.get)


@pytest.mark.parametrize("path", sorted(path for tier in TIERS for path in tier.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_has_tests_of_its_own_and_programs_of_its_signature(path: Path) -> None:
    problem = files(path.parent)[path.stem]
    visible, heldout = _given(problem.visible), _given(problem.heldout)
    assert len(visible) == 5 and len(heldout) >= 15 and len({*visible, *heldout}) == len(visible) + len(heldout)
    assert len(problem.task) <= MAX_CHARS and "\n" not in problem.statement.strip()
    programs = [problem.solution, *(wrong.program for wrong in problem.wrong)]
    assert len(programs) == len(set(programs)) == 4 and len({wrong.error for wrong in problem.wrong}) == 3
    parameters = [argument.arg for argument in ast.parse(f"def {problem.signature}: pass").body[0].args.args]
    for program in programs:
        assert (f"def {problem.signature}:\n" if problem.is_function else f"class Solution:\n    def {problem.signature}:\n") in program
    assert all(len(test.args) == len(parameters) - (not problem.is_function) for test in [*problem.visible, *problem.heldout])


def test_every_canonical_solution_passes_all_tests_and_trips_no_channel(tier: Path) -> None:
    problems, truths = rows(tier)
    assert len(problems) == len(files(tier))
    programs = [truth["canonical_solution"] for truth in truths]
    grades, verdicts = grade(programs, problems, sandbox()), verdicts_of(programs, problems, truths, sandbox())
    for row, graded, verdict in zip(problems, grades, verdicts, strict=True):
        assert graded.visible_pass and not graded.channels, (row["problem_id"], graded)
        assert verdict.correct is True, (row["problem_id"], verdict)


def test_every_wrong_solution_runs_and_fails_held_out_tests_and_one_passes_most_visible_tests(tier: Path) -> None:
    problems, truths = rows(tier)
    cells = [(row, truth, wrong) for row, truth in zip(problems, truths) for wrong in files(tier)[row["problem_id"].removeprefix("authored-")].wrong]
    programs, tasks = [wrong.program for _, _, wrong in cells], [row for row, _, _ in cells]
    shown = [truth | {"heldout_tests": row["visible_tests"]} for row, truth in zip(problems, truths)]
    heldout, visible = verdicts_of(programs, tasks, truths, sandbox()), verdicts_of(programs, tasks, shown, sandbox())
    passed: dict[str, float] = {}
    for (row, _, wrong), verdict, seen in zip(cells, heldout, visible, strict=True):
        assert verdict.correct is False and verdict.status == "ok", (row["problem_id"], wrong.error, verdict)
        passed[row["problem_id"]] = max(passed.get(row["problem_id"], 0.0), seen.pass_rate)
    assert all(share >= 0.8 for share in passed.values()), [name for name, share in passed.items() if share < 0.8]


def test_no_constant_answer_passes_the_visible_tests(tier: Path) -> None:
    problems, _ = rows(tier)
    cells = [(row, stub(row["entry_point"], answer)) for row in problems for answer in STUB_ANSWERS]
    graded = grade([program for _, program in cells], [row for row, _ in cells], sandbox())
    for (row, program), found in zip(cells, graded, strict=True):
        assert found.compiled and not found.visible_pass and found.status == "ok", (row["problem_id"], program)
    for row in problems:
        assert len({json.dumps(test["expected"]) for test in json.loads(row["visible_tests"])}) > 1, row["problem_id"]


def test_problems_are_split_evenly_over_modes_in_an_order_that_the_seed_decides() -> None:
    problems, truths = rows()
    assert [row["problem_id"] for row in problems] == [row["problem_id"] for row in truths]
    assert Counter(row["split"] for row in problems) == {"train": len(files()) - 31, "val": 7, "test": 24}
    for split in ("train", "test"):
        counts = Counter(row["mode"] for row in problems if row["split"] == split)
        assert set(counts) == set(MODES) and max(counts.values()) - min(counts.values()) <= 1
    assert rows() == make_problems(settings(), MODES) != make_problems(settings().model_copy(update={"seed": 1}), MODES)


def test_a_statement_shows_its_first_visible_test_and_the_form_of_the_answer() -> None:
    row = next(row for row in rows()[0] if row["problem_id"] == "authored-parking-fee")
    assert row["statement"].startswith("A car park charges by the minute of stay. The first 30 minutes are free.")
    assert row["statement"].endswith(
        "\n\nFor example, `fee(45)` returns `50`.\n\n"
        "Answer with a class `Solution` that has the method `fee(self, minutes: int) -> int`."
    )
    assert row["entry_point"] == "Solution().fee" and json.loads(row["visible_tests"])[0] == {"args": [45], "kwargs": {}, "expected": 50}


def test_demonstrations_of_authored_problems_do_what_they_show() -> None:
    problems = make_problems(settings(train=12, val=1, test=1), MODES)[0]
    found = chat_demonstrations(problems, canonical_solutions(settings()))
    check_pool(found, problems)
    assert all(program_of(True, row["text"]) == row["program"] for row in found)


def test_too_few_problems_and_malformed_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=rf"data/problems: found {len(files())} problems, expected at least {len(files()) + 1} "):
        make_problems(settings(test=25), MODES)
    with pytest.raises(ProblemError, match=r"data/problems/hard: found no file .*; set problems.path to one of: data/problems, data/problems/easy$"):
        read_problems(FOLDER / "hard")
    text = (FOLDER / "parking-fee.yaml").read_text()
    path = tmp_path / "parking-fee.yaml"
    malformed = {
        "is no YAML": text.replace("difficulty: easy", "difficulty: [easy"),
        "key 'difficulty': found 'hard'": text.replace("difficulty: easy", "difficulty: hard"),
        "key 'signature': found 'fee": text.replace("(self, minutes", "(minutes"),
        "key 'wrong.0.eror': found": text.replace("- error:", "- eror:", 1).replace("    program:", "    error: x\n    program:", 1),
        "key 'visible': found .*Expecting": text.replace('{"args": [45]', "{args: [45]"),
        "key 'heldout.0.expected'": re.sub(r'(heldout: \|\n.*), "expected": \d+', r"\1", text),
    }
    for message, changed in malformed.items():
        assert changed != text
        path.write_text(changed)
        with pytest.raises(ProblemError, match=f"parking-fee.yaml: {message}"):
            read_problems(tmp_path)
    path.rename(tmp_path / "Parking.yaml")
    with pytest.raises(ProblemError, match="found the name 'Parking'"):
        read_problems(tmp_path)
