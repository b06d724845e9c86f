"""A language model as judge: the probability that it answers yes to a question, from a folder or from an endpoint.

The key of an endpoint is read from the environment variable PGRPO_JUDGE_KEY; without it no key is sent.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from projected_grpo.errors import InputError
from projected_grpo.policy.base import Base, load_base
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.problems.prompts import is_chat

YES, NO = ("yes", "Yes"), ("no", "No")
KEY = "PGRPO_JUDGE_KEY"
PARALLEL = 8  # requests under way at once
TIMEOUT_S = 60
WAITS_S = (1, 4, 16)  # before a request is sent again that the endpoint was too busy for, or that was lost
BUSY = (408, 429, 500, 502, 503, 504)


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
        model = self.base.model
        prompts = [question_tokens(self.base, question) for question in questions]
        batch = TokenBatch.collate(prompts, [[] for _ in prompts])
        suspicion = torch.zeros(len(batch))
        for index in batch.micro_batches(self.micro_tokens):
            part = batch.select(index).to(self.base.device)
            hidden = model.model(part.tokens, use_cache=False).last_hidden_state  # (B, T, d)
            logits = model.lm_head(hidden[torch.arange(len(part), device=hidden.device), part.prompt_length - 1])  # (B, V)
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


class Reply(BaseModel):
    """What is read of an endpoint's chat completion."""

    choices: Annotated[list[Choice], Field(min_length=1)]


class EndpointJudge:
    """P(yes) / (P(yes) + P(no)) of the first token where an OpenAI-compatible endpoint gives log-probabilities, else 1
    for an answer yes and 0 for an answer no."""

    def __init__(self, address: str, model: str) -> None:
        self.url, self.model = address.rstrip("/") + "/chat/completions", model

    def __call__(self, questions: Sequence[str]) -> Float[Tensor, " N"]:
        with ThreadPoolExecutor(PARALLEL) as threads:
            return torch.tensor(list(threads.map(self._ask, questions)))

    def _ask(self, question: str) -> float:
        asked = {"model": self.model, "messages": [{"role": "user", "content": question}], "max_tokens": 1, "temperature": 0}
        body = self._send(json.dumps(asked | {"logprobs": True, "top_logprobs": 20}).encode())
        try:
            choice = Reply.model_validate_json(body).choices[0]
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise JudgeError(f"{self.url}: answered {body[:200]!r}, expected a chat completion: {reason}") from error
        yes, no = shares(choice)
        if yes + no == 0:
            raise JudgeError(
                f"{self.url}: {self.model} answered {choice.message.content!r}, expected yes or no; "
                "set monitor.judge_model to a model that answers in one word"
            )
        return yes / (yes + no)

    def _send(self, data: bytes) -> bytes:
        key = os.environ.get(KEY)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        for wait in (*WAITS_S, None):
            try:
                with urlopen(Request(self.url, data, headers), timeout=TIMEOUT_S) as answer:
                    return answer.read()
            except HTTPError as error:
                told = error.read(200).decode(errors="replace")
                problem, again = f"{error.code} {error.reason}: {told}", error.code in BUSY
            except (URLError, TimeoutError, ConnectionError) as error:
                problem, again = str(error), True
            if wait is None or not again:
                raise JudgeError(f"{self.url}: {problem}; check monitor.judge, monitor.judge_model and ${KEY}")
            time.sleep(wait)


def shares(choice: Choice) -> tuple[float, float]:
    """How much the answer says yes, and how much no: probabilities of the first token, or 1 for what was said."""
    if choice.logprobs and choice.logprobs.content:
        said = [(top.token, math.exp(top.logprob)) for top in choice.logprobs.content[0].top_logprobs]
    else:
        said = [(choice.message.content or "", 1.0)]
    word = [(text.strip().strip(".,!").lower(), share) for text, share in said]
    yes, no = (math.fsum(share for text, share in word if text == wanted) for wanted in ("yes", "no"))
    return yes, no
