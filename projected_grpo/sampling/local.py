"""Sampling with our own decode loop: on a copy of the weights into which the adapter is merged, or through the adapter.

Merged is faster where the copy fits into memory, and samples one state of the adapter after the other. A merged bfloat16
weight would round the adapter away, so a bfloat16 model is sampled through the adapter, on the policy's own weights and
with rows of all states beside each other.

A prompt is prefilled once and its cache repeated for the group. A completion's uniform numbers belong to its prompt, copy
and position, whatever rows are beside it.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from projected_grpo.memory import advises, sampling_lever
from projected_grpo.policy.adapter import ABLATED, BlockMasks, adapter_state
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.cache import growing_cache
from projected_grpo.sampling.decode import Decoded, Distribution, Prefilled, decode
from projected_grpo.sampling.graph import decode_in_graph
from projected_grpo.sampling.protocol import Completion, Request, State

PRESENT = {"base": (0.0, 0.0), "full": (1.0, 1.0), "deployed": ABLATED}  # of each state, the blocks' outputs


@dataclass(frozen=True)
class Prompt:
    """One prompt of a request; the fields are those of Request."""

    tokens: list[int]
    copies: int
    seed: int
    state: State


class LocalSampler:
    def __init__(self, policy: Policy, max_new_tokens: int, rows: int, merged: bool) -> None:
        """At most `rows` completions are decoded at once, or those of one prompt. `merged` holds a plain model, a copy whose adapted weights are rewritten for the state that is sampled next."""
        self.policy, self.max_new_tokens, self.rows, self.merged = policy, max_new_tokens, rows, merged
        self.model: PreTrainedModel = policy.base.model
        if not merged:
            return
        self.model = copy.deepcopy(self.model).eval()
        for name in policy.layers:
            parent, attribute = name.rsplit(".", 1)
            module = self.model.get_submodule(parent)
            setattr(module, attribute, getattr(module, attribute).base)

    def sample(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """The completions of each request, prompt by prompt, from the policy as it is now.

        Raises MemoryShortage where the GPU's memory does not suffice for `rows` completions at once.
        """
        asked = [
            [Prompt(tokens, request.copies, seed, request.state) for tokens, seed in zip(request.prompts, request.seeds, strict=True)]
            for request in requests
        ]
        if self.merged:
            return [self._sample_merged(request.state, prompts) for request, prompts in zip(requests, asked)]
        return self._sample_adapted(asked)

    def _sample_merged(self, state: State, prompts: list[Prompt]) -> list[Completion]:
        self._merge(state)
        return [completion for part in _parts(prompts, self.rows) for found in self._complete(part, None) for completion in found]

    def _sample_adapted(self, asked: list[list[Prompt]]) -> list[list[Completion]]:
        """The states of a prompt lie beside each other, so a group is in one part."""
        order = sorted((place, request) for request, prompts in enumerate(asked) for place in range(len(prompts)))
        training = self.model.training
        self.model.eval()  # transformers drops the cache where it checkpoints layers in training mode
        completions = []
        with self.policy.held_factors():
            for part in _parts([asked[request][place] for place, request in order], self.rows):
                states = {prompt.state for prompt in part}
                with adapter_state(self.policy.context, enabled=states != {"base"}):
                    completions += self._complete(part, None if len(states) == 1 and "deployed" not in states else _blocks(part))
        self.model.train(training)
        found: list[list[Completion]] = [[] for _ in asked]
        for (_, request), group in zip(order, completions, strict=True):
            found[request] += group
        return found

    @torch.no_grad()
    def _merge(self, state: State) -> None:
        for name, layer in self.policy.layers.items():
            weight = layer.base.weight if state == "base" else layer.merged(deployed_only=state == "deployed")
            self.model.get_submodule(name).weight.copy_(weight)

    def _complete(self, prompts: list[Prompt], blocks: BlockMasks | None) -> list[list[Completion]]:
        """The completions of each prompt. `blocks` has a row for each prompt."""
        copies = [prompt.copies for prompt in prompts]
        with advises(sampling_lever(self.rows, sum(copies), max(copies), self.max_new_tokens)), torch.inference_mode():
            found = self._decode(prompts, blocks)
        rows = zip(found.tokens.tolist(), found.logprob.tolist(), found.length.tolist())
        completions = iter([Completion(row[:n], chances[:n]) for row, chances, n in rows])
        return [list(islice(completions, count)) for count in copies]

    def _decode(self, prompts: list[Prompt], blocks: BlockMasks | None) -> Decoded:
        device = self.model.device
        uniform = torch.cat([_uniform(prompt.copies, self.max_new_tokens, prompt.seed) for prompt in prompts]).to(device)
        blocks = blocks and blocks.to(device)
        logits, cache, mask = self._prefill([prompt.tokens for prompt in prompts], blocks)
        row = torch.arange(len(prompts)).repeat_interleave(torch.tensor([prompt.copies for prompt in prompts])).to(device)
        start = Prefilled(logits[row], cache, row, mask[row], blocks and blocks.select(row), uniform)
        distribution = Distribution(self.policy.temperature, self.policy.base.eos_id)
        if device.type == "cuda":
            return decode_in_graph(self._forward, start, distribution, self.model.config)
        return decode(self._forward, start, distribution)

    def _prefill(self, prompts: list[list[int]], blocks: BlockMasks | None) -> tuple[Tensor, Cache, Tensor]:
        """Last logits (P, V), cache and attention mask (P, T) of left-padded prompts."""
        longest = max(len(prompt) for prompt in prompts)
        tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=self.model.device)
        mask = torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=self.model.device
        )
        cache = growing_cache(self.model.config)
        return self._forward(tokens, mask, (mask.cumsum(1) - 1).clamp(min=0), cache, blocks), cache, mask

    def _forward(self, tokens: Tensor, mask: Tensor, position: Tensor, cache: Cache, blocks: BlockMasks | None) -> Tensor:
        """Logits (R, V) after the last of the tokens (R, T), whose keys and values join the cache."""
        with adapter_state(self.policy.context, masks=blocks):
            return self.model(
                tokens, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1
            ).logits[:, -1]


def _parts(prompts: list[Prompt], rows: int) -> Iterator[list[Prompt]]:
    """Parts of at most `rows` completions each, or those of one prompt."""
    part: list[Prompt] = []
    for prompt in prompts:
        if part and sum(other.copies for other in part) + prompt.copies > rows:
            yield part
            part = []
        part.append(prompt)
    if part:
        yield part


def _blocks(prompts: list[Prompt]) -> BlockMasks:
    present = torch.tensor([PRESENT[prompt.state] for prompt in prompts])
    return BlockMasks(present, present, present)


def _uniform(rows: int, columns: int, seed: int) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
