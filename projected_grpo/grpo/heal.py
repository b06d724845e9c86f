"""Retain-heal: after training, the deployed block alone imitates the clean sides of the authored pairs.

The state is that of keep: the quarantine is absent from the forward pass, so the block is healed in the state in which it
deploys. Where rank 2r trains and deploys as one block (the policy none), both blocks are healed, because without the
second one it is another model than the deployed one.
"""

import math
import random

import torch
from jaxtyping import Float
from torch import Tensor

from projected_grpo.core.seeds import derive_seed
from projected_grpo.grpo.update import gradient_norms
from projected_grpo.policy.adapter import ABLATED, FULL
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy

BATCH = 8  # clean sides an optimizer step


class HealError(RuntimeError):
    """A batch whose gradient is not where it must be; the message gives the norms."""


def heal(
    policy: Policy, clean: TokenBatch, epochs: int, learning_rate: float, one_block: bool, seed: int
) -> list[float]:
    """Train `policy` on the clean sides. Returns the negative log-likelihood of each batch, nats a token.

    AdamW without decay. It depends on its arguments alone, so a run that was killed here heals again from the last
    checkpoint to the same bytes. Raises HealError where the deployed gradient is not positive or not finite, or where the
    quarantine has one.
    """
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    losses = []
    for epoch in range(epochs):
        order = random.Random(derive_seed(seed, "heal", epoch)).sample(range(len(clean)), len(clean))
        for index in torch.tensor(order).split(BATCH):
            for parameter in policy.parameters():
                parameter.grad = torch.zeros_like(parameter)
            loss = clean_nll(policy, clean.select(index), one_block)
            loss.backward()
            deployed, quarantine = gradient_norms(policy)
            if not (deployed > 0 and math.isfinite(deployed)) or (quarantine != 0 and not one_block):
                raise HealError(
                    f"retain-heal, epoch {epoch}: the gradient's norm is {deployed} in the deployed block and {quarantine} "
                    f"in the quarantine, expected a positive number and {'any' if one_block else 'exactly 0'}"
                )
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


def clean_nll(policy: Policy, batch: TokenBatch, one_block: bool) -> Float[Tensor, ""]:
    """Mean over the completions' tokens of -log pi, in the state that deploys."""
    return -policy.logp(batch, FULL if one_block else ABLATED).sum() / batch.completion_length.sum()
