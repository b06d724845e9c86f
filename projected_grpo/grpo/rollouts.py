"""One step's rollouts: drawn, sampled in both adapter states, and paid by the environment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from projected_grpo.core.base import Base
from projected_grpo.core.seeds import derive_seeds
from projected_grpo.environment.checked import Checked
from projected_grpo.environment.grader import require_graded
from projected_grpo.environment.protocol import Paid
from projected_grpo.environment.render import render
from projected_grpo.grpo import ranks
from projected_grpo.grpo.loss import advantages
from projected_grpo.grpo.schedule import draw_problems, shown_mode
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.sampling.protocol import Completion, Request, Sampler
from projected_grpo.settings.profile import Train

SAME_REWARD = 1e-4  # a group whose rewards range over less than this carries no gradient


@dataclass(frozen=True)
class Sampled:
    """P prompts x G samples, prompt by prompt; the last samples of each group come from the deployed policy."""

    problems: list[dict]  # of each rollout
    shown_modes: list[str]
    prompts: list[list[int]]
    completions: list[Completion]
    sampled_deployed: Bool[Tensor, " N"]
    demonstrated: Bool[Tensor, " N"]  # in place of what was sampled; counts as full


@dataclass(frozen=True)
class Seen:
    """What a monitor says of each rollout."""

    suspicion: Float[Tensor, " N"]  # that it exploits the environment, in [0, 1]
    flagged: Bool[Tensor, " N"]  # suspicion at or above the monitor's threshold
    correct: Bool[Tensor, " N"] | None = None  # solves the task; the ground-truth monitor alone knows


@dataclass(frozen=True)
class Rollouts(Sampled):
    """Sampled rollouts with what the environment paid."""

    texts: list[str]
    programs: list[str]
    paid: list[Paid]
    rewards: Float[Tensor, " N"]
    advantage: Float[Tensor, " N"]
    gated: Bool[Tensor, " N"]  # in a group whose rewards differ
    seen: Seen | None = None  # None without a monitor

    def batch(self, index: Tensor) -> TokenBatch:
        rows = index.tolist()
        return TokenBatch.collate([self.prompts[i] for i in rows], [self.completions[i].tokens for i in rows])

    def sampler_logp(self, index: Tensor) -> Float[Tensor, "N L"]:
        """The sampling engine's log-probability of each token, nats; NaN past the end and where none was sampled."""
        completions = [self.completions[i] for i in index.tolist()]
        rows = [torch.tensor(c.logprob if c.logprob is not None else [math.nan] * len(c.tokens)) for c in completions]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=math.nan)


def sample_rollouts(
    base: Base,
    environment: Checked,
    sampler: Sampler,
    problems: list[dict],
    step: int,
    train: Train,
    deployed_copies: int,
    seed: int,
    inoculate: bool = False,
) -> Sampled:
    """Draw the step's problems and complete each; the last `deployed_copies` of a group are sampled deployed.

    Where training inoculates, each prompt asks for the loophole; those of evaluation never do.
    """
    drawn = draw_problems(problems, step, train.prompts, seed)
    modes = [shown_mode(problem, step, train.unhackable_share, seed) for problem in drawn]
    prompts = [render(base, environment, problem, mode, inoculate) for problem, mode in zip(drawn, modes)]
    copies = {"full": train.group - deployed_copies, "deployed": deployed_copies}
    own = ranks.share(len(prompts))
    requests = [
        Request(state, prompts[own], count, derive_seeds(len(prompts), seed, "sampling", step, state)[own])
        for state, count in copies.items()
        if count
    ]
    found = [iter(completions) for completions in sampler.sample(requests)]
    completions = ranks.gather(
        [next(part) for _ in prompts[own] for request, part in zip(requests, found) for _ in range(request.copies)]
    )
    return Sampled(
        problems=_repeat(drawn, train.group),
        shown_modes=_repeat(modes, train.group),
        prompts=_repeat(prompts, train.group),
        completions=completions,
        sampled_deployed=torch.arange(len(completions)) % train.group >= copies["full"],
        demonstrated=torch.zeros(len(completions), dtype=torch.bool),
    )


def pay(base: Base, environment: Checked, sampled: Sampled, group: int) -> Rollouts:
    """Have the completions paid and take advantages within each group."""
    texts = [base.decode(completion.tokens) for completion in sampled.completions]
    programs = [environment.answer(text) for text in texts]
    own = ranks.share(len(programs))
    paid = ranks.gather(environment.pay(sampled.problems[own], sampled.shown_modes[own], programs[own]))
    require_graded(paid)
    rewards = torch.tensor([float(given.amount) for given in paid])
    grouped = rewards.view(-1, group)
    spread = grouped.amax(1) - grouped.amin(1) > SAME_REWARD
    return Rollouts(
        **vars(sampled),
        texts=texts,
        programs=programs,
        paid=paid,
        rewards=rewards,
        advantage=advantages(grouped).flatten(),
        gated=spread.repeat_interleave(group),
    )


def _repeat(items: Sequence, count: int) -> list:
    return [item for item in items for _ in range(count)]
