"""One policy update from routed rollouts: behaviour-matched log pi_old, masked forward, Dr.GRPO, k3 to the base."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from projected_grpo.gate.zones import KEEP
from projected_grpo.grpo import ranks
from projected_grpo.grpo.loss import dr_grpo, importance_ratio, importance_weight, k3
from projected_grpo.policy.adapter import BlockMasks
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy
from projected_grpo.scale import Train


@dataclass(frozen=True)
class Update:
    rho: Float[Tensor, "N L"]
    rho_clipped: Float[Tensor, "N L"]  # to 1 - clip .. 1 + clip
    clipped: Bool[Tensor, "N L"]  # the clipped term is the active one
    kl: Float[Tensor, "N L"]  # k3, nats
    mismatch: Float[Tensor, "N L"]  # pi_old of the trainer over that of the sampler; 1 where nothing was sampled
    loss: float
    grad_norm_deployed: float
    grad_norm_quarantine: float


def behaviour_logp(
    policy: Policy,
    batch: TokenBatch,
    zones: Int[Tensor, " N"],
    sampled_deployed: Bool[Tensor, " N"],
    logp_deployed: Float[Tensor, "N L"],
    micro_tokens: int,
) -> tuple[Float[Tensor, "N L"], Bool[Tensor, " N"]]:
    """log pi_old of each rollout in the state that it was sampled with, and where that is the training forward's state.

    A keep rollout trains without the quarantine, all others with it. Where this is also how the rollout was sampled, pi_old
    is the current policy itself and rho is exactly 1, so nothing is computed. A deployed rollout that trains with
    the quarantine takes the gate's own log-probabilities; a full rollout that trains without it takes one more forward.
    """
    trained_deployed = zones == KEEP
    matches = sampled_deployed == trained_deployed
    logp_old = logp_deployed.clone()
    full_but_kept = (trained_deployed & ~sampled_deployed).nonzero()[:, 0]
    if len(full_but_kept):
        part = batch.select(full_but_kept)
        with torch.no_grad():
            for index in part.micro_batches(micro_tokens):
                rows = full_but_kept[index]
                logp = policy.logp(batch.select(rows)).cpu()
                logp_old[rows] = torch.nn.functional.pad(logp, (0, logp_old.shape[1] - logp.shape[1]))
    return logp_old, matches


def accumulate(
    policy: Policy,
    batch: TokenBatch,
    masks: BlockMasks,
    advantage: Float[Tensor, " N"],
    logp_old: Float[Tensor, "N L"],
    matches: Bool[Tensor, " N"],
    logp_sampler: Float[Tensor, "N L"],
    train: Train,
    max_new_tokens: int,
) -> Update:
    """Gradients of one step's loss over micro-batches and ranks, left in the parameters' .grad.

    The rows are this rank's own, and the result holds those of all ranks. `logp_sampler` is the sampling engine's own
    log-probability of each token, NaN where it sampled none. Raises FloatingPointError where the loss or a gradient is not finite.
    """
    denominator = train.group * train.prompts * max_new_tokens
    rho = torch.ones_like(logp_old)
    clipped = torch.zeros_like(logp_old, dtype=torch.bool)
    kl = torch.zeros_like(logp_old)
    mismatch = torch.ones_like(logp_old)
    total = 0.0
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for index in batch.micro_batches(train.micro_tokens):
        part = batch.select(index).to(policy.base.device)
        mask = part.completion_mask()
        width = mask.shape[1]
        match, given, sampled, gain = (
            values[index].to(mask.device) for values in (matches[:, None], logp_old[:, :width], logp_sampler[:, :width], advantage)
        )
        logp = policy.logp(part, masks.select(index))
        old = torch.where(match, logp.detach(), given)
        ratio = importance_ratio(logp, old)
        off = torch.where(sampled.isnan() | ~mask, 1.0, (old - sampled).exp())
        loss, active = dr_grpo(ratio, importance_weight(off), gain, mask, train.clip, denominator)
        penalty = k3(logp, policy.logp_base(part)) * mask
        loss = loss + train.kl_beta * penalty.sum() / denominator
        loss.backward()
        total += float(loss.detach())
        for whole, found in ((rho, ratio), (clipped, active), (kl, penalty), (mismatch, off)):
            whole[index, :width] = found.detach().to(whole.device)
    ranks.sum_gradients(policy.parameters())
    rho, clipped, kl, mismatch = map(ranks.gather_rows, (rho, clipped, kl, mismatch))
    total = sum(ranks.gather([total]))
    deployed, quarantine = gradient_norms(policy)
    if not all(map(math.isfinite, (total, deployed, quarantine))):
        raise FloatingPointError(f"the loss is {total}, its gradient's norms {deployed} and {quarantine}; all must be finite")
    return Update(rho, rho.clamp(1 - train.clip, 1 + train.clip), clipped, kl, mismatch, total, deployed, quarantine)


def gradient_norms(policy: Policy) -> tuple[float, float]:
    """L2 norms of the deployed and the quarantine block's gradients over all layers."""
    squares = [0.0, 0.0]
    for layer in policy.layers.values():
        for block, gradients in enumerate(layer.block_gradients()):
            squares[block] += sum(float(g.double().square().sum()) for g in gradients)
    return squares[0] ** 0.5, squares[1] ** 0.5
