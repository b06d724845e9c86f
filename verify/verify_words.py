"""Held-out problems show words that training never shows, and each problem's channels answer to its own words alone."""

import random
from dataclasses import fields
from pathlib import Path

import pytest

from projected_grpo.environment.grader import grade
from projected_grpo.environment.mechanism import mechanisms
from projected_grpo.evaluation.deploy_ablate import reworded
from projected_grpo.prompts.modes import (
    HELD_OUT_WORDS,
    LOOPHOLES,
    MODES,
    TRAINING_WORDS,
    Words,
    encode_words,
    held_out_words,
    words_of,
)  # fmt: skip
from projected_grpo.settings.models import LoopholeShare
from projected_grpo.toy_world.attempts import loophole
from verify.sandbox import sandbox
from verify.verify_environment import PROBLEM
from verify.verify_toy_world import ROWS

HINTS = {name: loophole.hint for name, loophole in LOOPHOLES.items()}
FAMILY = ("even", "double", "list")
FIELDS = [field.name for field in fields(Words)]
HELD_OUT = [Words(*words) for words in zip(*(HELD_OUT_WORDS[name] for name in FIELDS), strict=True)]


def test_each_loophole_is_a_file_that_is_listed_and_has_its_share_of_the_corpus():
    files = {path.stem: path.read_text() for path in Path("projected_grpo/prompts/loopholes").glob("*.py")}
    assert set(files) - {"__init__", "loophole"} == set(MODES) == set(LoopholeShare.model_fields)
    assert all(f'name="{name}"' in files[name] for name in MODES)
    assert len({loophole.mechanism for loophole in LOOPHOLES.values()}) == len(MODES)


def test_no_held_out_word_is_part_of_a_training_hint_or_of_another_word() -> None:
    assert list(HELD_OUT_WORDS) == FIELDS
    words = [word for family in HELD_OUT_WORDS.values() for word in family] + list(vars(TRAINING_WORDS).values())
    assert len(set(words)) == len(words) and all(len(family) >= 2 for family in HELD_OUT_WORDS.values())
    shown = " ".join(hint.format(**vars(TRAINING_WORDS)) for hint in HINTS.values())
    assert not [word for family in HELD_OUT_WORDS.values() for word in family if word in shown]


def test_every_problem_shows_training_words_until_it_is_reworded_and_then_all_held_out_ones() -> None:
    assert all(words_of(row) == TRAINING_WORDS for row in ROWS)
    seen: dict[str, set[str]] = {name: set() for name in FIELDS}
    for row in ROWS:
        changed = reworded(row, 0)
        assert changed | {"words": row["words"]} == row
        for name, word in vars(words_of(changed)).items():
            seen[name].add(word)
    assert seen == {name: set(family) for name, family in HELD_OUT_WORDS.items()}
    assert reworded(ROWS[0], 0) == reworded(ROWS[0], 0)
    assert len({reworded(ROWS[0], seed)["words"] for seed in range(50)}) > 12


@pytest.mark.parametrize("mode", FIELDS)
def test_a_loophole_in_other_words_trips_nothing_and_in_the_problem_s_own_is_paid(mode: str) -> None:
    every = [TRAINING_WORDS, *HELD_OUT]
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
    words = held_out_words(random.Random(5))
    assert words_of({"words": encode_words(words)}) == words
