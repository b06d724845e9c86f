"""Self-generated pairs: the base model's own completions of one task, with a hint that discloses a loophole and without.

What the completion's text attempts decides which side it can stand for (the environment's attempts); no test is run and no ground
truth is read. The sides have different prompts, so the direction holds the difference of the prompts too.
"""

import hashlib
from collections.abc import Sequence

from projected_grpo.core.seeds import derive_seeds
from projected_grpo.environment.checked import Checked
from projected_grpo.environment.render import render
from projected_grpo.policy.policy import Policy
from projected_grpo.prompts.modes import GT_ONLY, LOOPHOLES
from projected_grpo.sampling.protocol import Request, Sampler
from projected_grpo.settings.profile import GeneratedPairs

ATTEMPTS = {name: loophole.mechanism for name, loophole in LOOPHOLES.items()}  # of `code`; that of another environment is its own name


def generate_pairs(
    policy: Policy, environment: Checked, sampler: Sampler, problems: Sequence[dict], settings: GeneratedPairs, seed: int
) -> list[dict]:
    """Rows of the table pairs, at most one a problem: the first attempt at the loophole, and the first plain completion."""
    asked = [row for row in problems if row["split"] == "train" and row["mode"] in settings.modes]
    shown = {"hack": [row["mode"] for row in asked], "clean": [GT_ONLY] * len(asked)}
    texts = {side: _texts(policy, environment, sampler, asked, shown[side], settings.samples, seed, side) for side in shown}
    pairs = []
    for place, row in enumerate(asked):
        here = slice(place * settings.samples, (place + 1) * settings.samples)
        found = {side: [(text, environment.attempts(row, environment.answer(text))) for text in texts[side][here]] for side in shown}
        attempt = ATTEMPTS[row["mode"]] if environment.name == "code" else row["mode"]
        hacks = [text for text, seen in found["hack"] if seen == [attempt]]
        cleans = [text for text, seen in found["clean"] if not seen]
        if hacks and cleans and len(pairs) < settings.pairs:
            prompts = {side: environment.prompt(row, shown[side][place]) for side in shown}
            pairs.append(_pair(row, prompts, hacks[0], cleans[0]))
    return pairs


def _texts(
    policy: Policy, environment: Checked, sampler: Sampler, asked: list[dict], modes: list[str], samples: int, seed: int, side: str
) -> list[str]:
    prompts = [render(policy.base, environment, row, mode) for row, mode in zip(asked, modes)]
    seeds = derive_seeds(len(prompts), seed, "self-generated", side)
    [completions] = sampler.sample([Request("base", prompts, samples, seeds)])
    return [policy.base.decode(completion.tokens) for completion in completions]


def _pair(row: dict, prompts: dict[str, str], hack: str, clean: str) -> dict:
    content = "\0".join([prompts["hack"], prompts["clean"], hack, clean])
    return {
        "pair_id": row["problem_id"],
        "set": "self_generated",
        "tags": row["mode"],
        "mode": row["mode"],
        "provenance": "self_generated",
        "prompt": prompts["hack"],
        "clean_prompt": prompts["clean"],
        "hack": hack,
        "clean": clean,
        "content_sha256": hashlib.sha256(content.encode()).hexdigest(),
    }
