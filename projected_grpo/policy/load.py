"""The policy that an arm starts from."""

from pathlib import Path

from projected_grpo.core.base import load_base
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.origin import AdapterError
from projected_grpo.policy.policy import Policy
from projected_grpo.settings.arm import Settings


def load_policy(base: Path, init: Path, settings: Settings) -> Policy:
    """The base model of the folder `base` with the adapter at its initialization. Raises AdapterError where they do not fit."""
    return Policy(load_base(base, settings.profile.model.device), load_init(init, settings.adapter), settings.profile.sampling.temperature)


def warm_start(policy: Policy, folder: Path, uses_ground_truth: bool) -> None:
    """Load the adapter of `folder`. Raises AdapterError.

    Only what is trained is loaded, so decay still pulls toward the initialization. An arm that does not itself use ground truth
    takes no adapter that was trained with it.
    """
    policy.load(folder)
    if policy.origin.uses_ground_truth and not uses_ground_truth:
        raise AdapterError(
            f"{folder}: holds an adapter that was trained with labels of the ground-truth monitor, and this arm uses none; let "
            "curriculum.warm_start name the adapter of a run that used none"
        )
