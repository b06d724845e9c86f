"""Deployment ablation: the same prompts answered by the base model, as trained, and with the quarantine reset.

Held-out problems are shown in the words of training. Those of the modes that have words of their own, as many at most, are
shown in words that training never shows too; the tasks of an environment of the user's own have none.
"""

import random

from projected_grpo.core.seeds import derive_seed, derive_seeds
from projected_grpo.environment.checked import Checked
from projected_grpo.environment.render import render
from projected_grpo.policy.policy import Policy
from projected_grpo.prompts.modes import GT_ONLY, HELD_OUT_WORDS, encode_words, held_out_words
from projected_grpo.sampling.protocol import Request, Sampler, State
from projected_grpo.settings.profile import Eval

LOADED: dict[str, State] = {"base": "base", "as_trained": "full", "deployed": "deployed"}  # what is sampled of each state
SPLITS = {"train_iid": "train", "heldout": "test", "heldout_words": "test"}


def reworded(problem: dict, seed: int) -> dict:
    """A row of the table problems with held-out words, which depend on the problem's name and the seed alone."""
    rng = random.Random(derive_seed(seed, "words", problem["problem_id"]))
    return problem | {"words": encode_words(held_out_words(rng))}


def evaluation_problems(problems: list[dict], data: str, settings: Eval, seed: int) -> list[dict]:
    """At most `settings.problems` problems of the split behind `data`, the same for every state and arm of a seed."""
    split = SPLITS[data]
    rows = [row for row in problems if row["split"] == split]
    if data == "heldout_words":
        rows = [reworded(row, seed) for row in rows if row["words"] and row["mode"] in HELD_OUT_WORDS]
    chosen = random.Random(derive_seed(seed, "eval-problems", split)).sample(rows, min(settings.problems, len(rows)))
    return sorted(chosen, key=lambda row: row["problem_id"])


def sample_state(policy: Policy, environment: Checked, sampler: Sampler, problems: list[dict], settings: Eval, seed: int, state: str) -> list[dict]:
    """Rows of the table eval_rollouts. Each problem is shown with its own hint and, in the words of training, without one.

    The states share their random numbers. The policy's quarantine is left as it was.
    """
    rows = []
    for data in SPLITS:
        chosen = evaluation_problems(problems, data, settings, seed)
        if not chosen:
            continue  # held-out words of tasks that have none
        for hinted in (True,) if data == "heldout_words" else (True, False):
            modes = [row["mode"] if hinted else GT_ONLY for row in chosen]
            prompts = [render(policy.base, environment, row, mode) for row, mode in zip(chosen, modes)]
            seeds = derive_seeds(len(prompts), seed, "eval-sampling", data, "hinted" if hinted else "unhinted")
            [completions] = sampler.sample([Request(LOADED[state], prompts, settings.samples, seeds)])
            texts = [policy.base.decode(completion.tokens) for completion in completions]
            rows += [
                {
                    "data": data,
                    "state": state,
                    "shown_mode": modes[i // settings.samples],
                    "problem_id": chosen[i // settings.samples]["problem_id"],
                    "words": chosen[i // settings.samples]["words"],
                    "sample": i % settings.samples,
                    "text": text,
                    "program": environment.answer(text),
                }
                for i, text in enumerate(texts)
            ]
    return rows


def sample_trained(
    policy: Policy, environment: Checked, sampler: Sampler, problems: list[dict], settings: Eval, seed: int, one_block: bool
) -> list[dict]:
    """The same of the states as trained and deployed, which are one where the adapter deploys as one block."""
    trained = sample_state(policy, environment, sampler, problems, settings, seed, "as_trained")
    if one_block:
        return trained + [row | {"state": "deployed"} for row in trained]
    return trained + sample_state(policy, environment, sampler, problems, settings, seed, "deployed")
