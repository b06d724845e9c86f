"""The policy that an arm starts from."""

from pathlib import Path

from projected_grpo.core.base import load_base
from projected_grpo.policy.inits import load_init
from projected_grpo.policy.policy import Policy
from projected_grpo.settings.arm import Settings


def load_policy(base: Path, init: Path, settings: Settings) -> Policy:
    """The base model of the folder `base` with the adapter at its initialization. Raises AdapterError where they do not fit."""
    return Policy(load_base(base, settings.profile.model.device), load_init(init, settings.adapter), settings.profile.sampling.temperature)
