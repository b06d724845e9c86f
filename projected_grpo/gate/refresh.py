"""Bringing the direction up to the current weights, in the same way for every direction."""

from jaxtyping import Float
from torch import Tensor

from projected_grpo.gate.directions import pair_signs, paired_direction, transport
from projected_grpo.gate.pairs import PairTokens, pair_differences
from projected_grpo.policy.policy import Policy
from projected_grpo.settings.arm import Settings


def current_direction(
    settings: Settings, policy: Policy, original: Float[Tensor, " D"], pairs: PairTokens | None, widths: list[int]
) -> Float[Tensor, " D"]:
    """The direction under the policy's current weights.

    One from `pairs` is extracted again. One that no pair defines (Haar, oracle) is turned with the read-out that it
    lives in, as an extraction again from unchanged differences would turn it.
    """
    gate = settings.gate
    if pairs is None:
        layers = policy.layers.values()
        return transport(original, [layer.initial_down() for layer in layers], [layer.deployed_down() for layer in layers])
    differences = pair_differences(policy, pairs, [gate.reading], settings.profile.train.micro_tokens)[gate.reading]
    signs = pair_signs(gate.direction, gate.draw, len(pairs), settings.adapter.seed)
    return paired_direction(differences, signs, widths, gate.extraction)


def age(step: int, refresh_every: int) -> int:
    """Training steps since the direction was made or refreshed."""
    return step % refresh_every if refresh_every else step
