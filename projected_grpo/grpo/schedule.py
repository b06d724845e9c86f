"""What a step draws: its problems, which of them lose their hint, and the learning rate."""

import math
import random

from projected_grpo.core.seeds import derive_seed
from projected_grpo.prompts.modes import GT_ONLY
from projected_grpo.settings.profile import Train


def draw_problems(problems: list[dict], step: int, count: int, seed: int) -> list[dict]:
    """The step's problems: epochs of shuffled training problems, read on without a break."""
    first, past = step * count, (step + 1) * count
    epochs = range(first // len(problems), (past - 1) // len(problems) + 1)
    shuffled = [row for e in epochs for row in random.Random(derive_seed(seed, "epoch", e)).sample(problems, len(problems))]
    start = first - epochs[0] * len(problems)
    return shuffled[start : start + count]


def shown_mode(problem: dict, step: int, share: float, seed: int) -> str:
    """The problem's own mode, or gt_only where this (step, problem) belongs to the rotating unhackable share."""
    unhackable = random.Random(derive_seed(seed, "unhackable", step, problem["problem_id"])).random() < share
    return GT_ONLY if unhackable else problem["mode"]


def learning_rate(step: int, train: Train) -> float:
    """Linear warm-up, then cosine to zero."""
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    progress = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    return train.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
