"""Sampling with vLLM: the base weights stay in the engine, and each state of the adapter is a LoRA of one mixed batch.

The engine's prefix cache knows an adapter by its name and path, its workers know it by its id. Each call therefore
exports the policy as it is now under a name, a path and an id that no call had before, and forgets them at its end.
Two choices are for vLLM 0.32 on CPUs, and harmless elsewhere: the base model is an adapter of zeros, because rows without
an adapter get that of other rows; a prompt is read whole, because a seeded one that is read in parts ends the engine.

Log-probabilities are of the distribution that was sampled, after the temperature; top-p and top-k are off. The end token
of the policy's tokenizer alone ends a completion; a generation_config.json of the checkpoint is not read.
"""

import os
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from projected_grpo.core.seeds import derive_seeds
from projected_grpo.policy.export import STATES, export_adapter, padded_rank, write_lora
from projected_grpo.policy.policy import Policy
from projected_grpo.sampling.protocol import Completion, Request, SamplingError, State
from projected_grpo.settings.profile import VllmSampling

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # schedules in this process, so a kill of it ends the workers too
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # vLLM reads the two when it is imported
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from vllm import LLM, RequestOutput, SamplingParams  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402


class VllmSampler:
    """One engine for the whole run; worker processes hold its weights."""

    def __init__(self, policy: Policy, settings: VllmSampling, base: Path) -> None:
        """`base` is the folder of the policy's base model, which the engine loads in the policy's precision."""
        self.policy, self.settings = policy, settings
        self.numbers = count(1)  # of the adapters, over all calls
        self.engine = LLM(
            model=str(base),
            dtype=policy.base.model.dtype,
            max_model_len=settings.max_prompt_tokens + settings.max_new_tokens,
            enable_chunked_prefill=False,
            generation_config="vllm",
            logprobs_mode="processed_logprobs",
            enable_lora=True,
            max_loras=len(STATES),
            max_lora_rank=padded_rank(max(len(layer.factors()[0]) for layer in policy.layers.values())),
            distributed_executor_backend="mp",
            tensor_parallel_size=settings.tensor_parallel,
            gpu_memory_utilization=settings.memory_share,
            use_tqdm_on_load=False,
        )

    def sample(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """The completions of each request, prompt by prompt, from the policy as it is now.

        Raises SamplingError where a prompt is longer than it may be.
        """
        self._check_lengths(requests)
        rows = [
            (request.state, prompt, seed)
            for request in requests
            for prompt, stream in zip(request.prompts, request.seeds, strict=True)
            for seed in derive_seeds(request.copies, stream, "copy")
        ]
        with TemporaryDirectory(prefix="adapters-") as folder:
            adapters = {request.state: self._export(request.state, Path(folder)) for request in requests}
            outputs = self.engine.generate(
                [{"prompt_token_ids": prompt} for _, prompt, _ in rows],
                [self._parameters(seed) for _, _, seed in rows],
                lora_request=[adapters[state] for state, _, _ in rows],
                use_tqdm=False,
            )
            for adapter in adapters.values():
                self.engine.llm_engine.remove_lora(adapter.lora_int_id)
        completions = map(_completion, outputs)
        return [list(islice(completions, len(request.prompts) * request.copies)) for request in requests]

    @torch.no_grad()
    def _export(self, state: State, folder: Path) -> LoRARequest:
        """The adapter in this state as it is now."""
        number = next(self.numbers)
        path = folder / f"{state}-{number}"
        if state == "base":
            zeros = {name: tuple(map(torch.zeros_like, layer.factors())) for name, layer in self.policy.layers.items()}
            write_lora(zeros, self.policy.origin, None, path)
        else:
            export_adapter(self.policy, STATES[state], None, path)
        return LoRARequest(path.name, number, str(path))

    def _parameters(self, seed: int) -> SamplingParams:
        return SamplingParams(
            temperature=self.policy.temperature,
            top_p=1.0,
            top_k=0,
            max_tokens=self.settings.max_new_tokens,
            seed=seed,
            ignore_eos=True,  # the next line says what ends a completion
            stop_token_ids=list(self.policy.base.end_ids),
            logprobs=0,  # that of the sampled token and no other
            detokenize=False,
        )

    def _check_lengths(self, requests: Sequence[Request]) -> None:
        longest = max(len(prompt) for request in requests for prompt in request.prompts)
        if longest > self.settings.max_prompt_tokens:
            raise SamplingError(
                f"a prompt has {longest} tokens, and sampling.max_prompt_tokens is {self.settings.max_prompt_tokens}; raise it to "
                f"{longest}"
            )


def _completion(output: RequestOutput) -> Completion:
    [sampled] = output.outputs
    tokens = list(sampled.token_ids)
    return Completion(tokens, [chosen[token].logprob for token, chosen in zip(tokens, sampled.logprobs, strict=True)])
