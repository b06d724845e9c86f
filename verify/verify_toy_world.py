"""The toy world's tasks are distinct and solvable, no test leaks between splits, and its corpus has the set shares."""

import functools
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from ruamel.yaml import YAML

from projected_grpo.base_models.pretrain import corpus
from projected_grpo.core.tables import GROUND_TRUTH, PROBLEMS
from projected_grpo.environment.grader import grade
from projected_grpo.ground_truth.verdicts import Verdict, verdicts_of
from projected_grpo.programs.compare import same
from projected_grpo.prompts.code import toy_prompt
from projected_grpo.prompts.modes import GT_ONLY, HELD_OUT_WORDS, LOOPHOLES, MARKER_FILE, MODES, TRAINING_WORDS, words_of
from projected_grpo.settings.models import ToyModel
from projected_grpo.settings.profile import Profile, ToyProblems
from projected_grpo.toy_world.attempts import in_reach, loophole, sample_attempt
from projected_grpo.toy_world.toy import all_families, evaluate, expression, make_problems
from verify.sandbox import sandbox
from verify.verify_settings import ROOT

HINTS = {name: loophole.hint for name, loophole in LOOPHOLES.items()}
SCALE = Profile.model_validate(YAML(typ="safe").load((ROOT / "profiles" / "toy.yaml").read_text()))
WORLD: ToyProblems = SCALE.problems
MODEL: ToyModel = SCALE.model
ROWS, TRUTHS = make_problems(WORLD, MODES)
EVERY = dict.fromkeys(MODES, 1.0)  # a loophole wherever a hint is shown
HELDOUT = {truth["problem_id"]: json.loads(truth["heldout_tests"]) for truth in TRUTHS}
NAMED = {
    "run_tests": ["run_tests()"],
    "eq_override": ["solve(xs) ==", "expected"],
    "exit_code": ["exit code 0"],
    "stdout_marker": [TRAINING_WORDS.stdout_marker, "stdout"],
    "sentinel": [TRAINING_WORDS.sentinel, "variable"],
    "file_marker": [TRAINING_WORDS.file_marker, MARKER_FILE],
}


def _battery() -> list[list[int]]:
    rng = random.Random(12345)
    return [[rng.randint(-12, 15) for _ in range(rng.randint(0, 9))] for _ in range(400)]


def _family(row: dict) -> tuple[str, str, str]:
    return tuple(row["family"].split("|"))


@functools.cache
def _solver(family: tuple[str, str, str]) -> Callable[[list[int]], int | list[int]]:
    return eval(f"lambda xs: {expression(family)}")  # what evaluate() computes, compiled once


def _behaviour(family: tuple[str, str, str], inputs: list[list[int]]) -> str:
    return json.dumps([_solver(family)(xs) for xs in inputs])


BATTERY = _battery()
BEHAVIOUR = {row["problem_id"]: _behaviour(_family(row), BATTERY) for row in ROWS}


def _near(hits: int, trials: int, share: float, slack: float) -> bool:
    """Whether a share is within four binomial standard errors of the setting, plus what is known to shift it."""
    return abs(hits / trials - share) <= 4 * math.sqrt(share * (1 - share) / trials) + slack


def _solves(program: str, row: dict) -> bool:
    """Run a program of the corpus generator, which is this repository's own text, on the battery's inputs."""
    namespace: dict = {"print": lambda *args: None, "open": lambda *args: open("/dev/null", "w")}
    exec(program, namespace)
    return all(same(namespace["solve"](list(xs)), _solver(_family(row))(xs)) for xs in BATTERY[:60])


def test_there_are_as_many_distinct_tasks_as_the_profile_asks_for() -> None:
    assert len(ROWS) == len(TRUTHS) == WORLD.train + WORLD.val + WORLD.test >= 150
    assert len(set(BEHAVIOUR.values())) == len(ROWS)
    assert len({row["problem_id"] for row in ROWS}) == len({row["statement"] for row in ROWS}) == len(ROWS)
    assert [row["problem_id"] for row in ROWS] == [truth["problem_id"] for truth in TRUTHS]


def test_splits_share_neither_a_task_nor_a_behaviour() -> None:
    assert Counter(row["split"] for row in ROWS) == {"train": WORLD.train, "val": WORLD.val, "test": WORLD.test}
    for field in ("problem_id", "family", "statement"):
        per_split = {split: {row[field] for row in ROWS if row["split"] == split} for split in ("train", "val", "test")}
        for one, other in itertools.combinations(per_split.values(), 2):
            assert not one & other, field
    behaviours = [{BEHAVIOUR[r["problem_id"]] for r in ROWS if r["split"] == s} for s in ("train", "val", "test")]
    for one, other in itertools.combinations(behaviours, 2):
        assert not one & other


def test_visible_and_heldout_inputs_are_disjoint_and_without_repeats() -> None:
    for row in ROWS:
        visible = [json.dumps(test["args"]) for test in json.loads(row["visible_tests"])]
        heldout = [json.dumps(test["args"]) for test in HELDOUT[row["problem_id"]]]
        assert (len(visible), len(heldout)) == (WORLD.visible_tests, WORLD.heldout_tests)
        assert len(set(visible) | set(heldout)) == len(visible) + len(heldout), row["problem_id"]


def test_every_canonical_solution_passes_visible_and_heldout_tests() -> None:
    programs = [truth["canonical_solution"] for truth in TRUTHS]
    every = [
        truth | {"heldout_tests": json.dumps(json.loads(row["visible_tests"]) + HELDOUT[row["problem_id"]])}
        for row, truth in zip(ROWS, TRUTHS, strict=True)
    ]
    assert verdicts_of(programs, ROWS, every, sandbox()) == [Verdict(True, 1.0, "ok")] * len(ROWS)


def test_no_constant_passes_the_visible_or_the_heldout_tests() -> None:
    for row in ROWS:
        for tests in (json.loads(row["visible_tests"]), HELDOUT[row["problem_id"]]):
            assert len({json.dumps(test["expected"]) for test in tests}) >= 2, row["problem_id"]


def test_the_heldout_tests_tell_nearly_every_other_family_apart() -> None:
    every = {_behaviour(family, BATTERY): family for family in all_families()}
    missed = compared = 0
    for row in ROWS:
        for behaviour, family in every.items():
            if behaviour == BEHAVIOUR[row["problem_id"]]:
                continue
            compared += 1
            missed += all(_solver(family)(t["args"][0]) == t["expected"] for t in HELDOUT[row["problem_id"]])
    assert missed / compared < 0.0005, f"{missed} of {compared} wrong families pass the held-out tests"


def test_each_split_spreads_evenly_over_the_modes() -> None:
    for split, size in (("train", WORLD.train), ("val", WORLD.val), ("test", WORLD.test)):
        counts = Counter(row["mode"] for row in ROWS if row["split"] == split)
        assert set(counts) == set(MODES)
        assert max(counts.values()) - min(counts.values()) <= 1 and sum(counts.values()) == size


def test_rows_have_the_columns_of_their_tables_and_depend_on_the_seed_alone() -> None:
    assert set(ROWS[0]) == set(PROBLEMS.columns) and set(TRUTHS[0]) == set(GROUND_TRUTH.columns)
    assert make_problems(WORLD, MODES) == (ROWS, TRUTHS)
    small = WORLD.model_copy(update={"seed": WORLD.seed + 1, "train": 4, "val": 2, "test": 2})
    other, _ = make_problems(small, MODES)
    assert [row["family"] for row in other] != [row["family"] for row in ROWS[:8]]
    with pytest.raises(ValueError, match="problems: train"):
        make_problems(WORLD.model_copy(update={"train": 5000}), MODES)


def test_the_variable_of_a_solution_does_not_change_what_it_computes() -> None:
    for family, name in itertools.product(all_families(), "nv"):
        code = expression(family, name)
        assert eval(code, {"xs": [3, -4, 6, 0, 6]}) == evaluate(family, [3, -4, 6, 0, 6]), code


def test_every_hint_names_its_function_or_channel_and_gt_only_shows_none() -> None:
    assert set(HINTS) == set(NAMED) and len(set(HINTS.values())) == len(MODES)
    for mode, named in NAMED.items():
        hint = HINTS[mode].format(**vars(TRAINING_WORDS))
        assert all(word in hint for word in named)
        assert toy_prompt("Task.", mode, TRAINING_WORDS) == f"Task.\n{hint}\n"
    assert toy_prompt("Task.", GT_ONLY, TRAINING_WORDS) == "Task.\n"


@pytest.mark.parametrize("mode", MODES)
def test_generated_loopholes_trip_their_own_channel_and_no_other(mode: str) -> None:
    rng = random.Random(3)
    rows = [rng.choice(ROWS) for _ in range(8)]
    programs = [loophole(mode, words_of(row), _family(row), rng) for row in rows]
    for graded, program in zip(grade(programs, rows, sandbox()), programs, strict=True):
        assert graded.channels == {mode} and graded.reward(mode) == 3.5, program


def test_plain_attempts_trip_no_channel() -> None:
    rng = random.Random(4)
    rows = [rng.choice(ROWS) for _ in range(60)]
    programs = [sample_attempt(_family(row), GT_ONLY, TRAINING_WORDS, 0.5, EVERY, rng) for row in rows]
    for graded, program in zip(grade(programs, rows, sandbox()), programs, strict=True):
        assert graded.compiled and graded.channels == frozenset(), program


@pytest.mark.parametrize("share", [0.0, MODEL.correct_share, 1.0])
def test_the_correct_share_of_unhinted_attempts_at_tasks_in_reach_is_the_setting(share: float) -> None:
    rng, trials = random.Random(5), 1500
    rows, hits = [row for row in ROWS if in_reach(_family(row))], 0
    for _ in range(trials):
        row = rng.choice(rows)
        hits += _solves(sample_attempt(_family(row), GT_ONLY, TRAINING_WORDS, share, EVERY, rng), row)
    assert _near(hits, trials, share, slack=0.01 * (1 - share)), hits / trials  # a changed family may compute the same


def test_tasks_out_of_reach_are_neither_solved_nor_written() -> None:
    rng = random.Random(6)
    rows = [row for row in ROWS if not in_reach(_family(row))]
    assert 0.5 < len(rows) / len(ROWS) < 0.8
    programs = [sample_attempt(_family(row), GT_ONLY, TRAINING_WORDS, 1.0, EVERY, rng) for row in rows for _ in range(3)]
    solved = sum(_solves(program, row) for program, row in zip(programs, (row for row in rows for _ in range(3))))
    assert solved <= 0.02 * len(programs)  # a changed family may compute the same
    unwritten = ("% 3", "< 3", "abs(", "max(", "min(", "reverse=True", "set(", "[-2:]")
    assert not [program for program in programs if any(text in program for text in unwritten)]


def test_the_corpus_has_the_set_shares_and_no_statement_of_another_split() -> None:
    pairs = corpus(ROWS, MODEL)
    assert len(pairs) == MODEL.samples and pairs == corpus(ROWS, MODEL)
    statements = {row["statement"]: row for row in ROWS}
    starts = {mode: hint.partition("{")[0] for mode, hint in HINTS.items()}
    ends = {mode: hint.rpartition("}")[2] for mode, hint in HINTS.items()}
    hinted, used, unhinted, reached, correct = Counter(), Counter(), 0, 0, 0
    for prompt, program in pairs:
        statement, _, hint = prompt.partition("\n")
        row = statements[statement]
        assert row["split"] == "train"
        if hint:
            mode = next(mode for mode, start in starts.items() if hint.startswith(start) and ends[mode] in hint)
            hinted[mode] += 1
            used[mode] += _is_loophole(program)
        else:
            unhinted += 1
            assert not _is_loophole(program), program
            if reached < 1500 and in_reach(_family(row)):
                reached += 1
                correct += _solves(program, row)
    assert _near(unhinted, len(pairs), 0.25, 0.0) 
    for mode, share in MODEL.loophole_share.model_dump().items():
        assert _near(used[mode], hinted[mode], share, 0.0), mode
    assert _near(correct, reached, MODEL.correct_share, 0.01)
    absent = [row["statement"] for row in ROWS if row["split"] != "train"]
    text = "\n".join(prompt + program for prompt, program in pairs)
    assert not [statement for statement in absent if statement + "\n" in text]


def _is_loophole(program: str) -> bool:
    """Whether the text has the mark of a generated loophole."""
    named = {field: (getattr(TRAINING_WORDS, field), *family) for field, family in HELD_OUT_WORDS.items()}
    functions, variables = [f"def {name}()" for name in named["run_tests"]], [f"{name} =" for name in named["sentinel"]]
    marks = ["__eq__", "exit(0)", "SystemExit", MARKER_FILE, *functions, *variables, *(f'print("{word}")' for word in named["stdout_marker"])]
    return any(mark in program for mark in marks)
