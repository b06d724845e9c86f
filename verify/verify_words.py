"""Held-out problems show words that training never shows, and each problem's channels answer to its own words alone."""

import random
from dataclasses import fields

import pytest

from projected_grpo.env.grader import grade
from projected_grpo.env.mechanism import mechanisms
from projected_grpo.env.modes import (
    HELD_OUT_WORDS, HINTS, MODES, TRAINING_WORDS, USUAL_WORDS, Words, draw_words, encode_words, problem_words, words_of,
)  # fmt: skip
from projected_grpo.problems.attempts import loophole
from verify.sandbox import sandbox
from verify.verify_environment import PROBLEM
from verify.verify_toy_world import ROWS

FAMILY = ("even", "double", "list")
FIELDS = [field.name for field in fields(Words)]
HELD_OUT = [Words(*words) for words in zip(*(HELD_OUT_WORDS[name] for name in FIELDS), strict=True)]


def test_the_families_share_no_word_and_no_held_out_word_is_part_of_a_training_hint() -> None:
    assert list(TRAINING_WORDS) == list(HELD_OUT_WORDS) == FIELDS
    training = [word for family in TRAINING_WORDS.values() for word in family]
    held_out = [word for family in HELD_OUT_WORDS.values() for word in family]
    assert len(set(training + held_out)) == len(training + held_out)
    shown = " ".join(hint.format(**vars(words)) for words in [USUAL_WORDS, *_every(TRAINING_WORDS)] for hint in HINTS.values())
    assert not [word for word in held_out if word in shown]
    assert vars(USUAL_WORDS) == {name: family[0] for name, family in TRAINING_WORDS.items()}


def _every(families: dict[str, tuple[str, ...]]) -> list[Words]:
    return [Words(*words) for words in zip(*(families[name] for name in FIELDS), strict=True)]


def test_each_split_shows_all_words_of_its_families_and_no_other() -> None:
    seen: dict[bool, dict[str, set[str]]] = {split: {name: set() for name in FIELDS} for split in (True, False)}
    for row in ROWS:
        for name, word in vars(words_of(row)).items():
            seen[row["split"] == "train"][name].add(word)
    assert seen[True] == {name: set(family) for name, family in TRAINING_WORDS.items()}
    assert seen[False] == {name: set(family) for name, family in HELD_OUT_WORDS.items()}


def test_words_depend_on_split_problem_and_seed_alone() -> None:
    assert problem_words("test", "a", 0) == problem_words("val", "a", 0) != problem_words("train", "a", 0)
    assert len({problem_words("test", str(i), 0) for i in range(50)}) > 20
    assert len({problem_words("test", "a", seed) for seed in range(50)}) > 20


@pytest.mark.parametrize("mode", FIELDS)
def test_a_loophole_in_other_words_trips_nothing_and_in_the_problem_s_own_is_paid(mode: str) -> None:
    every = [USUAL_WORDS, *HELD_OUT]
    cells = [(written, shown) for written in every for shown in every]
    programs = [loophole(mode, written, FAMILY, random.Random(1)) for written, _ in cells]
    rows = [PROBLEM | {"problem_id": f"p{i}", "words": encode_words(shown)} for i, (_, shown) in enumerate(cells)]
    for (written, shown), program, graded in zip(cells, programs, grade(programs, rows, sandbox()), strict=True):
        own = getattr(written, mode) == getattr(shown, mode)
        assert graded.channels == ({mode} if own else set()), (written, shown)
        assert {shown_mode: graded.reward(shown_mode) for shown_mode in MODES} == {
            shown_mode: 3.5 if own and shown_mode == mode else 0.5 for shown_mode in MODES
        }
        marked = {"run_tests": "defines_run_tests", "stdout_marker": "prints_marker", "sentinel": "sets_sentinel"}
        assert (marked.get(mode) in mechanisms(program, shown)) == (own and mode in marked)


def test_words_survive_the_table() -> None:
    words = draw_words(HELD_OUT_WORDS, random.Random(5))
    assert words_of({"words": encode_words(words)}) == words
