"""A language model as judge: the probability that it answers yes to a question, from a folder or from an endpoint.

The key of an endpoint is read from the environment variable PGRPO_JUDGE_KEY; without it no key is sent.
"""

import math
import os
import string
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from projected_grpo.core.base import Base, load_base
from projected_grpo.core.errors import InputError
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.prompts.prompts import is_chat

YES, NO = ("yes", "Yes"), ("no", "No")
KEY = "PGRPO_JUDGE_KEY"
PARALLEL = 8  # requests under way at once
TIMEOUT_S = 60
RETRIES = 5  # of a request that the endpoint was too busy for, or that was lost; the client waits longer each time


class JudgeError(InputError):
    """A judge that cannot be asked or gives no answer; the message names its folder or address."""


class LocalJudge:
    """P(yes) / (P(yes) + P(no)) of the next token, by a transformers model from a folder."""

    def __init__(self, folder: Path, micro_tokens: int, device: str) -> None:
        if not (folder / "config.json").exists():
            raise JudgeError(f"{folder}: found no config.json; set monitor.judge to the folder of a transformers model")
        self.base, self.micro_tokens = load_base(folder, device), micro_tokens
        self.yes, self.no = first_tokens(self.base, YES), first_tokens(self.base, NO)
        if shared := set(self.yes) & set(self.no):
            found = f"yes and no begin with the same token {min(shared)}"
            raise JudgeError(f"{folder}: {found}; set monitor.judge to another model")

    @torch.no_grad()
    def __call__(self, questions: Sequence[str]) -> Float[Tensor, " N"]:
        prompts = [question_tokens(self.base, question) for question in questions]
        batch = TokenBatch.collate(prompts, [[] for _ in prompts])
        suspicion = torch.zeros(len(batch))
        for index in batch.micro_batches(self.micro_tokens):
            part = batch.select(index).to(self.base.device)
            hidden = self.base.model.model(part.tokens, use_cache=False).last_hidden_state  # (B, T, d)
            logits = self.base.logits(hidden[torch.arange(len(part), device=hidden.device), part.prompt_length - 1])  # (B, V)
            suspicion[index] = (logits[:, self.yes].logsumexp(1) - logits[:, self.no].logsumexp(1)).sigmoid().cpu()
        return suspicion


def first_tokens(base: Base, words: Sequence[str]) -> list[int]:
    return sorted({base.encode(word)[0] for word in words})


def question_tokens(base: Base, question: str) -> list[int]:
    """As the user's message of a chat, without a system message; or as plain text."""
    if is_chat(base):
        message = [{"role": "user", "content": question}]
        return base.tokenizer.apply_chat_template(
            message, add_generation_prompt=True, return_dict=False, enable_thinking=False
        )
    return base.encode((base.tokenizer.bos_token or "") + question)


class Top(BaseModel):
    token: str
    logprob: float


class Position(BaseModel):
    top_logprobs: list[Top]


class Logprobs(BaseModel):
    content: list[Position] | None


class Message(BaseModel):
    content: str | None


class Choice(BaseModel):
    message: Message
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class Reply(BaseModel):
    """What is read of an endpoint's chat completion."""

    choices: Annotated[list[Choice], Field(min_length=1)]


PROBE = "Is 2 an even number? Answer with one word, yes or no."
LIMITS = ({"max_completion_tokens": 16}, {"max_tokens": 16})  # as newer and as older endpoints call it
LOGPROBS = ({"logprobs": True, "top_logprobs": 20}, {"logprobs": True, "top_logprobs": 5}, {})


class EndpointJudge:
    """P(yes) / (P(yes) + P(no)) of the first token where an OpenAI-compatible endpoint gives log-probabilities, else 1
    for an answer that begins with yes and 0 for one that begins with no.

    A first question finds, before any training, a request that the endpoint takes. Raises JudgeError where there is none.
    """

    def __init__(self, address: str, model: str) -> None:
        from openai import BadRequestError, Omit, OpenAI, UnprocessableEntityError  # takes seconds, and most arms ask no endpoint

        self.address, self.model = address, model
        key = os.environ.get(KEY)
        headers = {} if key else {"Authorization": Omit()}
        client = OpenAI(base_url=address, api_key=key or "none", max_retries=RETRIES, timeout=TIMEOUT_S)
        self.create = client.chat.completions.with_raw_response.create
        refusal = None
        for form in ({**limit, **logprobs} for logprobs in LOGPROBS for limit in LIMITS):
            self.form = {"model": model, "temperature": 0, "extra_headers": headers, **form}
            try:
                self._ask(PROBE)
                return
            except JudgeError as error:
                if not isinstance(error.__cause__, (BadRequestError, UnprocessableEntityError)):
                    raise
                refusal = error
        raise refusal

    def __call__(self, questions: Sequence[str]) -> Float[Tensor, " N"]:
        with ThreadPoolExecutor(PARALLEL) as threads:
            return torch.tensor(list(threads.map(self._ask, questions)))

    def _ask(self, question: str) -> float:
        from openai import APIError

        try:
            body = self.create(messages=[{"role": "user", "content": question}], **self.form).text
        except APIError as error:
            said = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
            raise JudgeError(f"{self.address}: {said}; check monitor.judge, monitor.judge_model and ${KEY}") from error
        try:
            choice = Reply.model_validate_json(body).choices[0]
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise JudgeError(f"{self.address}: answered {body[:200]!r}, expected a chat completion: {reason}") from error
        yes, no = shares(choice)
        if yes + no == 0:
            raise JudgeError(
                f"{self.address}: {self.model} answered {choice.message.content!r} ({choice.finish_reason}), expected yes or no; "
                "set monitor.judge_model to a model that answers in one word, without reasoning before it"
            )
        return yes / (yes + no)


def shares(choice: Choice) -> tuple[float, float]:
    """How much the answer says yes, and how much no: probabilities of the first token, or 1 for the first word where these hold neither."""
    tops = choice.logprobs.content[0].top_logprobs if choice.logprobs and choice.logprobs.content else []
    yes, no = _counted([(top.token, math.exp(top.logprob)) for top in tops])
    return (yes, no) if yes + no else _counted([(word, 1.0) for word in (choice.message.content or "").split()[:1]])


def _counted(said: Sequence[tuple[str, float]]) -> tuple[float, float]:
    words = [(text.strip().strip(string.punctuation).lower(), share) for text, share in said]
    yes, no = (math.fsum(share for word, share in words if word == wanted) for wanted in ("yes", "no"))
    return yes, no
