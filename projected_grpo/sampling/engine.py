"""The sampling engine that a profile names."""

from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.local import LocalSampler
from projected_grpo.sampling.protocol import Sampler
from projected_grpo.scale import Sampling


def open_sampler(policy: Policy, settings: Sampling) -> Sampler:
    return LocalSampler(policy, settings.max_new_tokens, settings.rows, merged=settings.engine == "merged")
