"""The policy: a frozen base model with a lora2r adapter, and the log-probabilities that training needs."""

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast

from projected_grpo.errors import InputError
from projected_grpo.policy.base import Base
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.lora2r import AdapterContext, BlockMasks, Lora2r, adapter_state, attach
from projected_grpo.settings import Adapter

ADAPTER_FILE = "adapter.safetensors"


class AdapterError(InputError):
    """An adapter file that does not fit the model; the message names the file and the tensor."""


class Policy:
    """`temperature` divides the logits here as it does at sampling, so both sides speak of the same distribution."""

    def __init__(self, base: Base, adapter: Adapter, temperature: float) -> None:
        self.base, self.temperature = base, temperature
        self.layers: dict[str, Lora2r]
        self.context: AdapterContext
        self.layers, self.context = attach(base.model, adapter.rank, adapter.seed)

    def parameters(self) -> list[Tensor]:
        return [p for layer in self.layers.values() for p in (layer.dA, layer.dB)]

    def logp(self, batch: TokenBatch, masks: BlockMasks | None = None) -> Float[Tensor, "B L"]:
        """Log-probability of each completion token, nats; 0 past a row's length. Carries gradient where it is on."""
        return self.token_logp(batch, self.forward(batch, masks).last_hidden_state)

    def forward(self, batch: TokenBatch, masks: BlockMasks | None, every_layer: bool = False) -> BaseModelOutputWithPast:
        """last_hidden_state (B, T, d); with `every_layer`, hidden_states too: the embeddings and each layer's output."""
        with adapter_state(self.context, masks=masks):
            return self.base.model.model(batch.tokens, use_cache=False, output_hidden_states=every_layer)

    def token_logp(self, batch: TokenBatch, hidden: Float[Tensor, "B T d"]) -> Float[Tensor, "B L"]:
        """log pi of the completion tokens from the last hidden states."""
        mask, positions = batch.completion_mask(), batch.completion_positions()
        row = torch.arange(len(batch))[:, None].expand_as(positions)
        states = hidden[row[mask], positions[mask] - 1]  # the state before a token predicts it
        logits = self.base.model.lm_head(states) / self.temperature
        chosen = logits.log_softmax(-1).gather(1, batch.tokens[row[mask], positions[mask]][:, None])[:, 0]
        return torch.zeros(mask.shape).masked_scatter(mask, chosen)

    @torch.no_grad()
    def logp_base(self, batch: TokenBatch) -> Float[Tensor, "B L"]:
        """Log-probabilities of the base model: the reference of the KL penalty."""
        with adapter_state(self.context, enabled=False):
            return self.logp(batch)

    def reset_quarantine(self) -> None:
        for layer in self.layers.values():
            layer.reset_quarantine()

    def state(self) -> dict[str, Tensor]:
        """The adapter's tensors by name: frozen initialization and trained differences."""
        parts = ("A0", "B0", "dA", "dB")
        return {f"{name}.{part}": getattr(layer, part).detach().contiguous() for name, layer in self.layers.items() for part in parts}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state(), folder / ADAPTER_FILE)

    def load(self, folder: Path) -> None:
        """Load dA and dB. Raises AdapterError where a tensor is missing, misshaped, or the initialization differs."""
        path = folder / ADAPTER_FILE
        if not path.exists():
            raise AdapterError(f"{path}: missing; the train_arm stage writes it")
        self.load_state(load_file(path), str(path))

    def load_state(self, saved: dict[str, Tensor], source: str) -> None:
        for name, tensor in self.state().items():
            if name not in saved:
                raise AdapterError(f"{source}: tensor '{name}' is missing; the adapter belongs to another model")
            if saved[name].shape != tensor.shape:
                raise AdapterError(f"{source}: tensor '{name}' has shape {tuple(saved[name].shape)}, expected {tuple(tensor.shape)}")
            if name.endswith(("A0", "B0")) and not torch.equal(saved[name], tensor):
                raise AdapterError(f"{source}: tensor '{name}' differs from the initialization that adapter.seed gives")
            tensor.copy_(saved[name])


def block_masks(forward: list[tuple[float, float]], gradient: list[tuple[float, float]]) -> BlockMasks:
    return BlockMasks(torch.tensor(forward), torch.tensor(gradient))
