"""The policy: a frozen base model with an adapter, and the log-probabilities that training needs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPast

from projected_grpo.core.base import Base
from projected_grpo.policy.adapter import FULL, AdaptedLayer, AdapterContext, State, adapter_state, target_layers
from projected_grpo.policy.antipasto import Antipasto
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.inits import Initialization
from projected_grpo.policy.layout import Layout, cheapest, lay_out, products_of_a_pair
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
        self.together = partial(cheapest, products_of_a_pair(base.model.config, [layer.base for layer in self.layers.values()]))

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
    def held(self) -> Iterator[None]:
        """Within it the adapter is that of now, and what every pass needs of it is made once: merged weights, or factors for
        rows in several states. Parameters receive gradients, and must not change."""
        with adapter_state(self.context, factors={}, weights={}):
            yield

    def lay_out(self, batch: TokenBatch, micro_tokens: int | None = None) -> Iterator[Layout]:
        """The batch in forward passes, one after the other on the model's device. None: all in one."""
        return (layout.to(self.base.device) for layout in lay_out(batch, micro_tokens, self.together))

    def logp(self, batch: TokenBatch, state: State = FULL) -> Float[Tensor, "B L"]:
        """Log-probability of each completion token, nats; 0 past a row's length. Carries gradient where it is on.

        The batch may be anywhere; what comes back is on the model's device.
        """
        [layout] = self.lay_out(batch)
        return self.token_logp(layout, self.forward(layout, state).last_hidden_state)[layout.index.argsort()]

    def states(self, layout: Layout, state: State) -> Float[Tensor, "N d"]:
        """The last hidden states that predict the completion tokens, completion by completion."""
        return layout.before(self.forward(layout, state).last_hidden_state)

    @torch.no_grad()
    def base_states(self, layout: Layout) -> Float[Tensor, "N d"]:
        """The same of the base model: the reference of the KL penalty."""
        with adapter_state(self.context, enabled=False):
            return self.states(layout, FULL)

    def forward(self, layout: Layout, state: State, every_layer: bool = False) -> BaseModelOutputWithPast:
        """last_hidden_state (R, T, d); with `every_layer`, hidden_states too: the embeddings and each layer's output."""
        with adapter_state(self.context, state=state):
            return self.base.model.model(
                layout.tokens, attention_mask=layout.mask, position_ids=layout.positions, use_cache=False, output_hidden_states=every_layer
            )

    def token_logp(self, layout: Layout, hidden: Float[Tensor, "R T d"]) -> Float[Tensor, "B L"]:
        """log pi of the completion tokens from the last hidden states."""
        mask, chosen = layout.batch.completion_mask(), layout.batch.completion_tokens()
        parts = zip(layout.before(hidden).split(LOGIT_TOKENS), chosen.split(LOGIT_TOKENS))
        logp = [checkpoint(self._chosen_logp, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, torch.cat(logp))

    def log_distribution(self, states: Float[Tensor, "N d"]) -> Float[Tensor, "N V"]:
        """Log-probabilities over the vocabulary of the token after each state, nats. N is small enough for all of them at once."""
        return (self.base.logits(states).float() / self.temperature).log_softmax(-1)

    def _chosen_logp(self, states: Float[Tensor, "N d"], tokens: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        return self.log_distribution(states).gather(1, tokens[:, None])[:, 0]

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
