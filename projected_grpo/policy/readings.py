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
from torch import Tensor, nn
from transformers import PreTrainedModel

from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.adapter import BlockMasks, adapter_state, target_layers
from projected_grpo.policy.policy import Policy

READINGS = ("bottleneck", "residual", "output", "gradient")
ACTIVATIONS = READINGS[:3]


def module_widths(policy: Policy, reading: str) -> dict[str, int]:
    """Name and width of each module's piece of a reading, in the order in which the vector holds them: by name."""
    linears = {name: layer.base for name, layer in policy.layers.items()}
    return _widths(policy.base.model, linears, policy.origin.adapter.rank, reading)


def bare_widths(model: PreTrainedModel, rank: int, reading: str) -> dict[str, int]:
    """The same for a model without an adapter yet."""
    return _widths(model, target_layers(model), rank, reading)


def _widths(model: PreTrainedModel, linears: Mapping[str, nn.Linear], rank: int, reading: str) -> dict[str, int]:
    if reading == "residual":
        layers = sorted(f"model.layers.{i}" for i in range(model.config.num_hidden_layers))
        return dict.fromkeys(layers, model.config.hidden_size)
    if reading == "output":
        return {name: layer.out_features for name, layer in linears.items()}
    return dict.fromkeys(linears, rank)


def read_deployed(
    policy: Policy, batch: TokenBatch, readings: Sequence[str]
) -> tuple[dict[str, Float[Tensor, "B D"]], Float[Tensor, "B L"]]:
    """Each reading of the rollouts, and their log-probabilities, both of the deployed policy, on the CPU, without gradient."""
    found, logp = _activations(policy, batch, readings)
    if "gradient" in readings:
        found["gradient"] = _gradients(policy, batch)
    return found, logp


@torch.no_grad()
def _activations(
    policy: Policy, batch: TokenBatch, readings: Sequence[str]
) -> tuple[dict[str, Float[Tensor, "B D"]], Float[Tensor, "B L"]]:
    masks = BlockMasks.ablated(len(batch))
    batch = batch.to(policy.base.device)
    weights, found = batch.pooling_weights(), {}
    with adapter_state(policy.context, pooling=weights, pooled={}):
        states = policy.forward(batch, masks, every_layer="residual" in readings)
        pooled = {name: policy.context.pooled[name] for name in policy.layers}  # (B, r)
    if "bottleneck" in readings:
        found["bottleneck"] = torch.cat(list(pooled.values()), dim=1)
    if "output" in readings:
        up = {name: layer.deployed_up() for name, layer in policy.layers.items()}  # (d_out, r)
        found["output"] = torch.cat([h @ up[name].T for name, h in pooled.items()], dim=1)
    if "residual" in readings:
        after = [states.hidden_states[int(name.rpartition(".")[2]) + 1] for name in module_widths(policy, "residual")]
        found["residual"] = torch.cat([torch.einsum("bt,btd->bd", weights, hidden.to(weights.dtype)) for hidden in after], dim=1)
    return {name: reading.cpu() for name, reading in found.items()}, policy.token_logp(batch, states.last_hidden_state).cpu()


def _gradients(policy: Policy, batch: TokenBatch) -> Float[Tensor, "B D"]:
    """Leaves every parameter's .grad as it was."""
    masks = BlockMasks.ablated(len(batch))
    batch = batch.to(policy.base.device)
    shape = {name: (len(batch), 1, layer.rank) for name, layer in policy.layers.items()}
    probes = {name: torch.zeros(size, device=policy.base.device, requires_grad=True) for name, size in shape.items()}
    with torch.enable_grad(), adapter_state(policy.context, probes=probes):
        logp = policy.token_logp(batch, policy.forward(batch, masks).last_hidden_state)
        loss = -(logp.sum(1) / batch.completion_length.clamp(min=1)).sum()
        gradients = torch.autograd.grad(loss, list(probes.values()))
    return torch.cat([gradient[:, 0] for gradient in gradients], dim=1).cpu()
