"""Dr.GRPO with the exact KL to the base, as sums over tokens divided by one constant, so micro-batches simply add up."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import kl_div

MISMATCH_CAP = 2.0  # of the importance weight of a token's sampling (Yao et al. 2025, truncated importance sampling)
DUAL_CLIP = 3.0  # of the ratio where A < 0 (Ye et al. 2020, dual-clip PPO)
LOG_RATIO_LIMIT = 20.0  # nats: far above both clips, far below overflow


class PolicyLoss(NamedTuple):
    loss: Float[Tensor, ""]  # to be minimized
    clipped: Bool[Tensor, " N"]  # the ratio clipped to 1 - clip .. 1 + clip is the active term
    dual_clipped: Bool[Tensor, " N"]  # the ratio is over DUAL_CLIP and A < 0, so the token carries no gradient


def advantages(rewards: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """Reward minus the mean of its group; not divided by the deviation (Liu et al. 2025, Dr.GRPO)."""
    return rewards - rewards.mean(1, keepdim=True)


def exact_kl(logp: Float[Tensor, "N V"], logp_ref: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """KL(policy || reference) of the next token, nats, summed over the vocabulary: no sampling noise, and none of a sampled
    token's estimators, which are unbounded on tokens that another policy drew. Arguments are log-probabilities."""
    return kl_div(logp_ref, logp, log_target=True, reduction="none").sum(-1)


def importance_ratio(logp: Float[Tensor, " N"], logp_old: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """rho: policy over behaviour policy, token by token, at most exp(LOG_RATIO_LIMIT)."""
    return (logp - logp_old).clamp(max=LOG_RATIO_LIMIT).exp()


def importance_weight(mismatch: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Truncated importance weight for tokens that another program than the trainer sampled, from trainer over sampler."""
    return mismatch.clamp(max=MISMATCH_CAP)


def dr_grpo(
    rho: Float[Tensor, " N"], weight: Float[Tensor, " N"], advantage: Float[Tensor, " N"], clip: float, denominator: int
) -> PolicyLoss:
    """Clipped policy loss of N tokens.

    `denominator` is prompts x group x max_new_tokens: a constant, so a long completion weighs more than a short one.
    """
    plain, clipped = rho * advantage, rho.clamp(1 - clip, 1 + clip) * advantage
    dual = (advantage < 0) & (rho > DUAL_CLIP)
    objective = torch.where(dual, DUAL_CLIP * advantage, torch.minimum(plain, clipped))
    return PolicyLoss(-(weight * objective).sum() / denominator, clipped < plain, dual)
