"""The passes by their definition: every row with its own zone, each block's output kept, detached or left out, plain autograd.

It stands in the layers' place, in one pass over rows of all zones, as the method's formulas say it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from projected_grpo.gate.zones import KEEP, ROUTE
from projected_grpo.policy.adapter import AdaptedLayer, AdapterContext
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy


def layer_by_definition(layer: AdaptedLayer, x: Tensor, zones: Sequence[int], masking: str) -> Tensor:
    """W x + deployed branch + quarantine branch of each row (B, T, d_in)."""
    (down, up), r = layer.factors(), layer.rank
    place = torch.arange(len(down)) % (2 * r)
    rows = []
    for row, zone in zip(x, zones, strict=True):
        y = layer.base(row)
        for trains, absent, of_block in ((zone != ROUTE, False, place < r), (zone != KEEP, zone == KEEP, place >= r)):
            d, u = down[of_block], up[:, of_block]
            if not trains and masking == "parameter":
                d, u = d.detach(), u.detach()
            branch = row @ d.T @ u.T
            if not trains and masking == "output":
                branch = branch.detach()
            y = y + (0.0 if absent else branch)
        rows.append(y)
    return torch.stack(rows)


@contextmanager
def by_definition(policy: Policy, zones: Sequence[int], masking: str) -> Iterator[dict[str, Tensor]]:
    """Within it the policy's layers are those above; yields each layer's input, by name, of the last pass."""
    inputs: dict[str, Tensor] = {}

    def forward_of(layer: AdaptedLayer):
        def forward(x: Tensor) -> Tensor:
            inputs[layer.name] = x.detach()
            return layer_by_definition(layer, x, zones, masking)

        return forward

    for layer in policy.layers.values():
        layer.forward = forward_of(layer)
    try:
        yield inputs
    finally:
        for layer in policy.layers.values():
            del layer.forward


def logp_by_definition(policy: Policy, batch: TokenBatch) -> Tensor:
    """log pi of the completion tokens (B, L), one sequence a row, from all logits."""
    logp = (policy.base.model(batch.tokens).logits.float() / policy.temperature).log_softmax(-1)
    rows, longest = [], int(batch.completion_length.max())
    for row in range(len(batch)):
        start, length = int(batch.prompt_length[row]), int(batch.completion_length[row])
        chosen = batch.tokens[row, start : start + length]
        own = logp[row, start - 1 : start - 1 + length].gather(1, chosen[:, None])[:, 0]
        rows.append(torch.nn.functional.pad(own, (0, longest - length)))
    return torch.stack(rows)


def moved_layer(kind: type[AdaptedLayer], make: Callable[[Tensor], dict[str, Tensor]]) -> tuple[AdaptedLayer, AdapterContext]:
    """A small layer of a parametrization in double precision, all of whose trained tensors have moved."""
    torch.manual_seed(3)
    base, context = nn.Linear(7, 8, bias=True).double().requires_grad_(False), AdapterContext()
    layer = kind("layer", base, context, **make(base.weight)).double()
    with torch.no_grad():
        for parameter in layer.trained().values():
            parameter.normal_()
    return layer, context
