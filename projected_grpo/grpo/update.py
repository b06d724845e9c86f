"""One policy update from routed rollouts: behaviour-matched log pi_old, a pass by zone, Dr.GRPO, exact KL to the base."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE, zone_state
from projected_grpo.grpo import ranks
from projected_grpo.grpo.loss import dr_grpo, exact_kl, importance_ratio, importance_weight
from projected_grpo.policy.adapter import FULL
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import LOGIT_TOKENS, Policy
from projected_grpo.settings.profile import Train


@dataclass(frozen=True)
class Update:
    rho: Float[Tensor, "N L"]
    rho_clipped: Float[Tensor, "N L"]  # to 1 - clip .. 1 + clip
    clipped: Bool[Tensor, "N L"]  # the clipped term is the active one
    dual_clipped: Bool[Tensor, "N L"]  # A < 0, and rho is over the dual clip
    kl: Float[Tensor, "N L"]  # exact KL to the base, nats
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
        for layout in policy.lay_out(batch.select(full_but_kept), micro_tokens):
            with torch.no_grad():
                logp = policy.token_logp(layout, policy.forward(layout, FULL).last_hidden_state).cpu()
            logp_old[full_but_kept[layout.index.cpu()], : logp.shape[1]] = logp
    return logp_old, matches


def accumulate(
    policy: Policy,
    batch: TokenBatch,
    zones: Int[Tensor, " N"],
    masking: str,
    advantage: Float[Tensor, " N"],
    logp_old: Float[Tensor, "N L"],
    matches: Bool[Tensor, " N"],
    logp_sampler: Float[Tensor, "N L"],
    train: Train,
    max_new_tokens: int,
) -> Update:
    """Gradients of one step's loss over zones, micro-batches and ranks, left in the parameters' .grad.

    The rows are this rank's own, and the result holds those of all ranks. `logp_sampler` is the sampling engine's own
    log-probability of each token, NaN where it sampled none. Raises FloatingPointError where the loss or a gradient is not finite.
    """
    denominator = train.group * train.prompts * max_new_tokens
    whole = Tokens(*(torch.full(logp_old.shape, value) for value in NO_TOKEN))
    total = 0.0
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for zone in (KEEP, ABSORB, ROUTE):
        inside, state = (zones == zone).nonzero()[:, 0], zone_state(zone, masking)
        for layout in policy.lay_out(batch.select(inside), train.micro_tokens) if len(inside) else ():
            rows, steps = layout.batch.completion_mask().cpu().nonzero(as_tuple=True)
            place = inside[layout.index.cpu()][rows], steps  # of the N completion tokens in the step's tables (rows, L)
            behaviour = Behaviour(logp_old[place], logp_sampler[place], matches[place[0]], advantage[place[0]]).to(policy.base.device)
            loss, found = differentiate(
                policy, policy.states(layout, state), policy.base_states(layout), layout.batch.completion_tokens(), behaviour, train, denominator
            )
            total += loss
            for table, values in zip(whole, found):
                table[place] = values.cpu()
    ranks.sum_gradients(policy.parameters())
    rho, clipped, dual_clipped, kl, mismatch = map(ranks.gather_rows, whole)
    total = sum(ranks.gather([total]))
    deployed, quarantine = gradient_norms(policy)
    if not all(map(math.isfinite, (total, deployed, quarantine))):
        raise FloatingPointError(f"the loss is {total}, its gradient's norms {deployed} and {quarantine}; all must be finite")
    limits = 1 - train.clip, 1 + train.clip
    return Update(rho, rho.clamp(*limits), clipped.bool(), dual_clipped.bool(), kl, mismatch, total, deployed, quarantine)


class Behaviour(NamedTuple):
    """Of N completion tokens, what their rollouts bring into the loss."""

    logp_old: Float[Tensor, " N"]
    logp_sampler: Float[Tensor, " N"]
    matches: Bool[Tensor, " N"]  # the behaviour policy is the policy itself
    advantage: Float[Tensor, " N"]

    def to(self, device: torch.device) -> "Behaviour":
        return Behaviour(*(values.to(device) for values in self))


class Tokens(NamedTuple):
    """What a micro-batch's N completion tokens had, or those of a step (rows, L)."""

    rho: Tensor
    clipped: Tensor
    dual_clipped: Tensor
    kl: Tensor
    mismatch: Tensor


NO_TOKEN = Tokens(rho=1.0, clipped=0.0, dual_clipped=0.0, kl=0.0, mismatch=1.0)  # where a row of the step has no token


def differentiate(
    policy: Policy,
    states: Float[Tensor, "N d"],
    base_states: Float[Tensor, "N d"],
    chosen: Int[Tensor, " N"],
    behaviour: Behaviour,
    train: Train,
    denominator: int,
) -> tuple[float, Tokens]:
    """The loss of N tokens, its backward pass from the states that predict them, and what the tokens had.

    Log-probabilities over the vocabulary exist for LOGIT_TOKENS tokens at once: each part is differentiated before the next.
    """
    total, found, gradients = 0.0, [], []
    for part in torch.arange(len(chosen), device=chosen.device).split(LOGIT_TOKENS):
        given, leaf = Behaviour(*(values[part] for values in behaviour)), states[part].detach().requires_grad_()
        distribution = policy.log_distribution(leaf)
        with torch.no_grad():
            reference = policy.log_distribution(base_states[part])
        logp = distribution.gather(1, chosen[part, None])[:, 0]
        old = torch.where(given.matches, logp.detach(), given.logp_old)
        rho = importance_ratio(logp, old)
        mismatch = torch.where(given.logp_sampler.isnan(), 1.0, (old - given.logp_sampler).exp())
        policy_loss = dr_grpo(rho, importance_weight(mismatch), given.advantage, train.clip, denominator)
        kl = exact_kl(distribution, reference)
        loss = policy_loss.loss + train.kl_beta * kl.sum() / denominator
        loss.backward()
        total += float(loss.detach())
        gradients.append(leaf.grad)
        found.append(Tokens(*(v.detach().float() for v in (rho, policy_loss.clipped, policy_loss.dual_clipped, kl, mismatch))))
    states.backward(torch.cat(gradients))
    return total, Tokens(*map(torch.cat, zip(*found)))


def gradient_norms(policy: Policy) -> tuple[float, float]:
    """L2 norms of the deployed and the quarantine block's gradients over all layers."""
    squares = [0.0, 0.0]
    for layer in policy.layers.values():
        for block, gradients in enumerate(layer.block_gradients()):
            squares[block] += sum(float(g.double().square().sum()) for g in gradients)
    return squares[0] ** 0.5, squares[1] ** 0.5
