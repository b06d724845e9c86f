"""Sampling with our own decode loop: on a copy of the weights into which the adapter is merged, or through the adapter.

Merged is faster where the copy fits into memory. A merged bfloat16 weight would round the adapter away, so a bfloat16
model is sampled through the adapter, on the policy's own weights.

A prompt is prefilled once and its cache repeated for the group; rows that ended are dropped from the cache. Each token
is drawn by inverting the cumulative distribution at a uniform number that belongs to its prompt, copy and position, so a
completion does not depend on the rows beside it.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from projected_grpo.policy.adapter import BlockMasks, adapter_state
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.cache import growing_cache
from projected_grpo.sampling.protocol import Completion, Request, State

DROP_BELOW = 0.8  # share of live rows below which the cache is compacted


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
        """The completions of each request, prompt by prompt, from the policy as it is now."""
        return [self._sample_merged(request) if self.merged else self._sample_adapted(request) for request in requests]

    def _sample_merged(self, request: Request) -> list[Completion]:
        self._merge(request.state)
        return self._in_parts(request)

    def _sample_adapted(self, request: Request) -> list[Completion]:
        masks = BlockMasks.ablated(1).to(self.model.device) if request.state == "deployed" else None
        training = self.model.training
        self.model.eval()  # transformers drops the cache where it checkpoints layers in training mode
        with adapter_state(self.policy.context, enabled=request.state != "base", masks=masks):
            completions = self._in_parts(request)
        self.model.train(training)
        return completions

    def _in_parts(self, request: Request) -> list[Completion]:
        prompts = max(1, self.rows // request.copies)
        parts = [slice(start, start + prompts) for start in range(0, len(request.prompts), prompts)]
        chosen = [replace(request, prompts=request.prompts[part], seeds=request.seeds[part]) for part in parts]
        return [completion for part in chosen for completion in self._sample(part)]

    @torch.no_grad()
    def _merge(self, state: State) -> None:
        for name, layer in self.policy.layers.items():
            weight = layer.base.weight if state == "base" else layer.merged(deployed_only=state == "deployed")
            self.model.get_submodule(name).weight.copy_(weight)

    @torch.inference_mode()
    def _sample(self, request: Request) -> list[Completion]:
        rows, copies = len(request.prompts) * request.copies, request.copies
        device = self.model.device
        uniform = torch.cat([_uniform(copies, self.max_new_tokens, seed) for seed in request.seeds]).to(device)
        logits, cache, padding = self._prefill(request.prompts)
        logits, padding = logits.repeat_interleave(copies, 0), padding.repeat_interleave(copies, 0)
        cache.batch_repeat_interleave(copies)
        tokens = torch.zeros(rows, self.max_new_tokens, dtype=torch.long, device=device)
        logprob = torch.zeros(rows, self.max_new_tokens, device=device)
        length = torch.zeros(rows, dtype=torch.long, device=device)
        live = torch.arange(rows, device=device)  # rows that are in the cache
        running = torch.ones(rows, dtype=torch.bool, device=device)  # of the rows in the cache
        for step in range(self.max_new_tokens):
            logp = (logits.float() / self.policy.temperature).log_softmax(-1)  # (live, V)
            chosen = _invert(logp, uniform[live, step])
            now = live[running]
            tokens[now, step] = chosen[running]
            logprob[now, step] = logp.gather(1, chosen[:, None])[running, 0]
            length[now] += 1
            running = running & (chosen != self.policy.base.eos_id)
            if not running.any() or step + 1 == self.max_new_tokens:
                break
            if running.float().mean() < DROP_BELOW:
                cache.batch_select_indices(running.nonzero()[:, 0])
                live, chosen, padding = live[running], chosen[running], padding[running]
                running = running[running]
            padding = torch.cat([padding, padding.new_ones(len(live), 1)], dim=1)
            position = padding.sum(1, keepdim=True) - 1
            logits = self.model(
                chosen[:, None], attention_mask=padding, position_ids=position, past_key_values=cache, use_cache=True
            ).logits[:, -1]
        rows = zip(tokens.tolist(), logprob.tolist(), length.tolist())
        return [Completion(row[:n], chances[:n]) for row, chances, n in rows]

    def _prefill(self, prompts: list[list[int]]) -> tuple[Tensor, Cache, Tensor]:
        """Last logits (P, V), cache and attention mask (P, T) of left-padded prompts."""
        longest = max(len(prompt) for prompt in prompts)
        tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=self.model.device)
        padding = torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=self.model.device
        )
        cache = growing_cache(self.model.config)
        position = (padding.cumsum(1) - 1).clamp(min=0)
        out = self.model(
            tokens, attention_mask=padding, position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return out.logits[:, -1], cache, padding


def _uniform(rows: int, columns: int, seed: int) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _invert(logp: Tensor, uniform: Tensor) -> Tensor:
    """Token ids (N,) at which the cumulative distribution of each row of `logp` (N, V) passes `uniform` (N,)."""
    cumulative = logp.double().exp().cumsum(-1)
    target = (uniform * cumulative[:, -1])[:, None]
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=logp.shape[1] - 1)
