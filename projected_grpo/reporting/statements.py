"""What the report and the model card state in the same words."""

from projected_grpo.analysis.rates import COVERAGE
from projected_grpo.reporting.manifest import Manifest

STATE_NAMES = {"base": "base", "as_trained": "as trained", "deployed": "deployed"}
DATA_NAMES = {"heldout": "held-out", "train_iid": "train-IID", "heldout_words": "held-out, other words"}
ONE_BLOCK = (
    "Under the policy none the adapter trains and deploys as one block, so as trained and deployed are the same rows "
    "by construction."
)
USES_GROUND_TRUTH = (
    "This arm uses ground truth: what the ground-truth monitor says decided how rollouts were trained on. It is an upper "
    "bound, not a method."
)
RATES = (
    "The hack rate is the share of samples that the environment pays and the ground-truth monitor finds incorrect; "
    f"the solve rate is the share that it finds correct. The ranges are {COVERAGE:.0%} Korn-Graubard intervals, "
    "which account for samples of one problem resembling one another. The rows «held-out, other words» show the "
    "held-out problems whose hint names a function or a marker, under names that training never showed."
)
ONE_RUN = (
    "This page describes one run with one seed. The intervals cover the choice of problems and the sampling of "
    "completions; they say nothing about the spread between seeds."
)
TOY = (
    "The toy world is a model organism. Its numbers describe the machinery and the size of effects in a "
    "generated family of list problems; they do not show that authored pairs transfer to a pretrained model."
)


def words(cell: object) -> str:
    """A value in a table."""
    if cell is None:
        return "undefined"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)

def rates(manifest: Manifest) -> str:
    """What the columns of the table of rates mean."""
    return f"{RATES} {ONE_BLOCK}" if manifest.arm.policy == "none" else RATES


def divergence(manifest: Manifest) -> list[str]:
    """A sentence where training ended early, and nothing otherwise."""
    if manifest.diverged_at_step is None:
        return []
    return [
        f"This run diverged: the tripwire ended its training in step {manifest.diverged_at_step}, counted from 0. Every number here is "
        "of the adapter as it was then."
    ]


def limits(manifest: Manifest) -> list[str]:
    """What one run of this arm and profile cannot show."""
    texts = [USES_GROUND_TRUTH] if manifest.arm.uses_ground_truth else []
    return [*texts, ONE_RUN, *world_limits(manifest.settings["profile"]["problems"]["kind"])]


def world_limits(problems: str) -> list[str]:
    """What numbers of this kind of problems cannot show."""
    return [TOY] if problems == "toy" else []
