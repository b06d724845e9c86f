"""What a gate can read of a rollout, with the quarantine ablated: one vector, made of one piece for each module.

| reading    | modules         | a module's piece                                                                         |
|------------|-----------------|------------------------------------------------------------------------------------|
| bottleneck | adapted layers  | A x of the deployed block, mean over the completion's positions (r)                |
| output     | adapted layers  | B A x of the deployed block, the same mean (d_out)                                 |
| residual   | decoder layers  | the residual stream after the layer, the same mean (d_model)                      |
| gradient   | adapted layers  | gradient of the completion's mean negative log-likelihood with respect to a factor |
|            |                 | of 1 on the deployed bottleneck (r)                                                |
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from projected_grpo.policy.adapter import ABLATED, Blocks, adapter_state
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.layout import Layout, lay_out
from projected_grpo.policy.policy import Policy

READINGS = ("bottleneck", "residual", "output", "gradient")
ACTIVATIONS = READINGS[:3]
UNTRAINED = ABLATED._replace(trained=Blocks(False, False))


def module_widths(policy: Policy, reading: str) -> dict[str, int]:
    """Name and width of each module's piece of a reading, in the order in which the vector holds them: by name."""
    config = policy.base.model.config
    if reading == "residual":
        return dict.fromkeys(sorted(f"model.layers.{i}" for i in range(config.num_hidden_layers)), config.hidden_size)
    if reading == "output":
        return {name: layer.base.out_features for name, layer in policy.layers.items()}
    return dict.fromkeys(policy.layers, policy.origin.adapter.rank)


def read_deployed(
    policy: Policy, batch: TokenBatch, readings: Sequence[str], micro_tokens: int | None = None
) -> tuple[dict[str, Float[Tensor, "B D"]], Float[Tensor, "B L"]]:
    """Each reading of the rollouts, and their log-probabilities, both of the deployed policy, on the CPU, without gradient.

    At most `micro_tokens` tokens are in a forward pass; None: all in one.
    """
    logp = torch.zeros(batch.completion_mask().shape)
    found: dict[str, Tensor] = {}
    for layout in policy.lay_out(batch, micro_tokens):
        index = layout.index.cpu()
        part, part_logp = _activations(policy, layout, readings)
        logp[index, : part_logp.shape[1]] = part_logp
        _place(found, part, index, len(batch))
    if "gradient" in readings:
        for layout in lay_out(batch, micro_tokens, lambda *lengths: 1):  # each completion's factor has a row of its own
            _place(found, {"gradient": _gradients(policy, layout.to(policy.base.device))}, layout.index, len(batch))
    return found, logp


def _place(whole: dict[str, Tensor], part: Mapping[str, Tensor], index: Tensor, rows: int) -> None:
    for name, values in part.items():
        whole.setdefault(name, torch.zeros(rows, values.shape[1]))[index] = values


@torch.no_grad()
def _activations(
    policy: Policy, layout: Layout, readings: Sequence[str]
) -> tuple[dict[str, Float[Tensor, "B D"]], Float[Tensor, "B L"]]:
    found, adapted = {}, {"bottleneck", "output"} & set(readings)
    with adapter_state(policy.context, pool=layout.pool if adapted else None, pooled={}):
        states = policy.forward(layout, ABLATED, every_layer="residual" in readings)
        pooled = {name: policy.context.pooled[name] for name in policy.layers} if adapted else {}  # (B, r)
    if "bottleneck" in readings:
        found["bottleneck"] = torch.cat(list(pooled.values()), dim=1)
    if "output" in readings:
        up = {name: layer.deployed_up() for name, layer in policy.layers.items()}  # (d_out, r)
        found["output"] = torch.cat([h @ up[name].T for name, h in pooled.items()], dim=1)
    if "residual" in readings:
        after = [states.hidden_states[int(name.rpartition(".")[2]) + 1] for name in module_widths(policy, "residual")]
        found["residual"] = torch.cat([layout.pool(hidden) for hidden in after], dim=1)
    return {name: reading.cpu() for name, reading in found.items()}, policy.token_logp(layout, states.last_hidden_state).cpu()


def _gradients(policy: Policy, layout: Layout) -> Float[Tensor, "B D"]:
    """Leaves every parameter's .grad as it was."""
    shape = {name: (len(layout.batch), 1, layer.rank) for name, layer in policy.layers.items()}
    probes = {name: torch.zeros(size, device=policy.base.device, requires_grad=True) for name, size in shape.items()}
    with torch.enable_grad(), adapter_state(policy.context, probes=probes):
        logp = policy.token_logp(layout, policy.forward(layout, UNTRAINED).last_hidden_state)
        loss = -(logp.sum(1) / layout.batch.completion_length.clamp(min=1)).sum()
        gradients = torch.autograd.grad(loss, list(probes.values()))
    return torch.cat([gradient[:, 0] for gradient in gradients], dim=1).cpu()
