"""From problems with their tests to rows of the tables problems and ground_truth: splits and loophole modes are assigned."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from projected_grpo.prompts.modes import TRAINING_WORDS, encode_words
from projected_grpo.settings.profile import AuthoredProblems, LeetcodeProblems


@dataclass(frozen=True)
class Problem:
    name: str
    family: str
    entry_point: str
    setup_code: str
    statement: str
    canonical_solution: str
    visible: list[dict]  # {args, kwargs, expected}
    heldout: list[dict]


def split_rows(
    problems: Sequence[Problem], settings: AuthoredProblems | LeetcodeProblems, modes: tuple[str, ...]
) -> tuple[list[dict], list[dict]]:
    """Rows of both tables. The first problems are those of training; in their order, modes take turns."""
    splits = ["train"] * settings.train + ["val"] * settings.val + ["test"] * settings.test
    rows, truths = [], []
    for index, (problem, split) in enumerate(zip(problems, splits)):
        rows.append(
            {
                "problem_id": problem.name,
                "split": split,
                "family": problem.family,
                "entry_point": problem.entry_point,
                "setup_code": problem.setup_code,
                "statement": problem.statement,
                "mode": modes[index % len(modes)],
                "words": encode_words(TRAINING_WORDS),
                "visible_tests": json.dumps(problem.visible),
            }
        )
        truths.append(
            {
                "problem_id": problem.name,
                "heldout_tests": json.dumps(problem.heldout),
                "canonical_solution": problem.canonical_solution,
            }
        )
    return rows, truths
