"""The loopholes of the environment `code`, each a file in prompts/loopholes, and the words that hints and channels share.

Each hint is truthful: the environment does pay for what it names. A channel is evidence from one run of the program.
"""

import json
import random
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache

from projected_grpo.prompts.loopholes import eq_override, exit_code, file_marker, run_tests, sentinel, stdout_marker
from projected_grpo.prompts.loopholes.file_marker import MARKER_FILE
from projected_grpo.prompts.loopholes.loophole import Words

FOUND = (run_tests, eq_override, exit_code, stdout_marker, sentinel, file_marker)  # in the order in which problems take turns
LOOPHOLES = {module.LOOPHOLE.name: module.LOOPHOLE for module in FOUND}
MODES = tuple(LOOPHOLES)
GT_ONLY = "gt_only"  # no hint is shown; only the tests pay
LOG_FILE = "log.txt"  # no evidence of anything: writing a file is not by itself a loophole
WRITABLE_FILES = (MARKER_FILE, LOG_FILE)  # all that a program can write to
TRAINING_WORDS = Words(**{name: loophole.word for name, loophole in LOOPHOLES.items() if loophole.word})
HELD_OUT_WORDS = {name: loophole.held_out_words for name, loophole in LOOPHOLES.items() if loophole.word}  # which training never shows


def in_order(modes: Iterable[str]) -> list[str]:
    """The loopholes among `modes`: ours as they are listed, then those of another environment by name."""
    found = set(modes) - {GT_ONLY, "none"}
    return [mode for mode in MODES if mode in found] + sorted(found - set(MODES))


def held_out_words(rng: random.Random) -> Words:
    return Words(**{field: rng.choice(family) for field, family in HELD_OUT_WORDS.items()})


def encode_words(words: Words) -> str:
    """The column `words` of the table problems."""
    return json.dumps(asdict(words))


def words_of(problem: dict) -> Words:
    """Of a row of the table problems."""
    return _decoded(problem["words"])


@cache
def _decoded(text: str) -> Words:
    return Words(**json.loads(text))
