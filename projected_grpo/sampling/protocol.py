"""What a sampling engine is asked for, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from projected_grpo.core.errors import InputError

State = Literal["base", "full", "deployed"]  # no adapter; both blocks; the quarantine ablated


class SamplingError(InputError):
    """A sampling engine that cannot be used, or not for what it is asked; the message names the setting."""


@dataclass(frozen=True)
class Request:
    state: State
    prompts: list[list[int]]
    copies: int  # completions of each prompt
    seeds: list[int]  # one of each prompt, so a prompt's completions do not depend on the prompts beside it


@dataclass(frozen=True)
class Completion:
    tokens: list[int]  # the end token included where it was sampled
    logprob: list[float] | None  # of each token under the sampling distribution, nats; None where it was not sampled


@runtime_checkable
class Sampler(Protocol):
    def sample(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """The completions of each request, prompt by prompt, from the policy as it is now."""
