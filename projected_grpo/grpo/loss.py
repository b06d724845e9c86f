"""Dr.GRPO with the k3 penalty, as sums over tokens divided by one constant, so micro-batches simply add up."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MISMATCH_CAP = 2.0  # of the importance weight of a token's sampling (Yao et al. 2025, truncated importance sampling)


def advantages(rewards: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """Reward minus the mean of its group; not divided by the deviation (Liu et al. 2025, Dr.GRPO)."""
    return rewards - rewards.mean(1, keepdim=True)


def k3(logp: Float[Tensor, "B L"], logp_ref: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """Estimator of KL(policy || reference), nats a token, never negative (Schulman 2020)."""
    difference = logp_ref - logp
    return difference.exp() - difference - 1


def importance_ratio(logp: Float[Tensor, "B L"], logp_old: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """rho: policy over behaviour policy, token by token."""
    return (logp - logp_old).exp()


def importance_weight(mismatch: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    """Truncated importance weight for tokens that another program than the trainer sampled, from trainer over sampler."""
    return mismatch.clamp(max=MISMATCH_CAP)


def dr_grpo(
    rho: Float[Tensor, "B L"],
    weight: Float[Tensor, "B L"],
    advantage: Float[Tensor, " B"],
    mask: Bool[Tensor, "B L"],
    clip: float,
    denominator: int,
) -> tuple[Float[Tensor, ""], Bool[Tensor, "B L"]]:
    """Clipped policy loss (to be minimized) and where the clipped term is the active one.

    `denominator` is prompts x group x max_new_tokens: a constant, so a long completion weighs more than a short one.
    """
    plain = rho * advantage[:, None]
    clipped = rho.clamp(1 - clip, 1 + clip) * advantage[:, None]
    objective = torch.minimum(plain, clipped)
    return -(weight * objective * mask).sum() / denominator, (clipped < plain) & mask
