"""The policy: a frozen base model with an adapter, and the log-probabilities that training needs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPast

from projected_grpo.policy.adapter import AdaptedLayer, AdapterContext, BlockMasks, adapter_state, target_layers
from projected_grpo.policy.antipasto import Antipasto
from projected_grpo.policy.base import Base
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.inits import Initialization
from projected_grpo.policy.lora2r import Lora2r
from projected_grpo.policy.origin import AdapterError, digest, load_tensors, save_tensors

ADAPTER_FILE = "adapter.safetensors"
LOGIT_TOKENS = 1024  # completion tokens whose logits over the vocabulary exist at once


class Policy:
    """`temperature` divides the logits here as it does at sampling, so both sides speak of the same distribution."""

    def __init__(self, base: Base, init: Initialization, temperature: float) -> None:
        """Adapts `base.model` in place. Raises AdapterError where `init` was made for another base model."""
        init.origin.check(replace(init.origin, base=digest(base.model)), "the initialization", "init_adapter")
        self.base, self.temperature, self.origin = base, temperature, init.origin
        self.context = AdapterContext()
        self.layers: dict[str, AdaptedLayer] = {}
        parametrization = Antipasto if init.origin.adapter.init == "antipasto" else Lora2r
        for name, layer in target_layers(base.model).items():
            parent, attribute = name.rsplit(".", 1)
            parts = {part: tensor.to(base.device) for part, tensor in init.layers[name].items()}
            self.layers[name] = parametrization(name, layer, self.context, **parts)
            setattr(base.model.get_submodule(parent), attribute, self.layers[name])

    def parameters(self) -> list[Tensor]:
        return [parameter for layer in self.layers.values() for parameter in layer.trained().values()]

    def recompute_layers(self) -> None:
        """Gradient checkpointing: keep a decoder layer's input for the backward pass, and compute the layer again there."""
        self.base.model.train()  # transformers heeds the next line in this mode alone; the models have no dropout
        self.base.model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": self._remembered})

    def _remembered(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """Around a layer's forward pass, and around its repetition: the adapter is then in the state that it has now."""
        return nullcontext(), adapter_state(self.context, **vars(self.context))

    @contextmanager
    def held_factors(self) -> Iterator[None]:
        """Within it the adapter is that of now, its factors made once and not in every forward pass. No gradient reaches it."""
        dtype = self.base.model.dtype
        factors = {name: tuple(f.detach().to(dtype) for f in layer.factors()) for name, layer in self.layers.items()}
        with adapter_state(self.context, factors=factors):
            yield

    def logp(self, batch: TokenBatch, masks: BlockMasks | None = None) -> Float[Tensor, "B L"]:
        """Log-probability of each completion token, nats; 0 past a row's length. Carries gradient where it is on.

        Batches and masks may be anywhere; what comes back is on the model's device.
        """
        return self.token_logp(batch, self.forward(batch, masks).last_hidden_state)

    def forward(self, batch: TokenBatch, masks: BlockMasks | None, every_layer: bool = False) -> BaseModelOutputWithPast:
        """last_hidden_state (B, T, d); with `every_layer`, hidden_states too: the embeddings and each layer's output."""
        with adapter_state(self.context, masks=masks and masks.to(self.base.device)):
            return self.base.model.model(batch.tokens.to(self.base.device), use_cache=False, output_hidden_states=every_layer)

    def token_logp(self, batch: TokenBatch, hidden: Float[Tensor, "B T d"]) -> Float[Tensor, "B L"]:
        """log pi of the completion tokens from the last hidden states."""
        batch = batch.to(self.base.device)
        mask, positions = batch.completion_mask(), batch.completion_positions()
        row = torch.arange(len(batch), device=self.base.device)[:, None].expand_as(positions)
        states = hidden[row[mask], positions[mask] - 1]  # the state before a token predicts it
        chosen = batch.tokens[row[mask], positions[mask]]
        parts = zip(states.split(LOGIT_TOKENS), chosen.split(LOGIT_TOKENS))
        logp = [checkpoint(self._chosen_logp, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        return torch.zeros(mask.shape, device=self.base.device).masked_scatter(mask, torch.cat(logp))

    def _chosen_logp(self, states: Float[Tensor, "N d"], tokens: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        logits = self.base.model.lm_head(states).float() / self.temperature
        return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)

    @torch.no_grad()
    def logp_base(self, batch: TokenBatch) -> Float[Tensor, "B L"]:
        """Log-probabilities of the base model: the reference of the KL penalty."""
        with adapter_state(self.context, enabled=False):
            return self.logp(batch)

    def reset_quarantine(self) -> None:
        for layer in self.layers.values():
            layer.reset_quarantine()

    def state(self) -> dict[str, Tensor]:
        """The adapter's tensors by name: of each layer the frozen initialization, then what is trained."""
        return {
            f"{name}.{part}": tensor.detach().contiguous()
            for name, layer in self.layers.items()
            for part, tensor in (layer.frozen() | layer.trained()).items()
        }

    def save(self, folder: Path, uses_ground_truth: bool) -> None:
        """Write the adapter, and whether labels of the ground-truth monitor took part in its training."""
        save_tensors(folder / ADAPTER_FILE, self.state(), replace(self.origin, uses_ground_truth=uses_ground_truth))

    def load(self, folder: Path) -> None:
        """Load what was trained. Raises AdapterError where the file is of another initialization or base model."""
        path = folder / ADAPTER_FILE
        tensors, origin = load_tensors(path, "train_arm")
        origin.check(self.origin, str(path), "train_arm")
        self.load_state(tensors, str(path))
        self.origin = origin

    def load_state(self, saved: dict[str, Tensor], source: str) -> None:
        """Raises AdapterError where a tensor is missing, misshaped, or the initialization differs."""
        frozen = {f"{name}.{part}" for name, layer in self.layers.items() for part in layer.frozen()}
        for name, tensor in self.state().items():
            if name not in saved:
                raise AdapterError(f"{source}: tensor '{name}' is missing; the adapter belongs to another model")
            if saved[name].shape != tensor.shape:
                raise AdapterError(f"{source}: tensor '{name}' has shape {tuple(saved[name].shape)}, expected {tuple(tensor.shape)}")
            if name in frozen and not torch.equal(saved[name].to(tensor.device), tensor):
                raise AdapterError(f"{source}: tensor '{name}' differs from the initialization of this policy")
            tensor.copy_(saved[name])
