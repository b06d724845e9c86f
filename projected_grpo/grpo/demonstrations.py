"""Demonstrations in place of rollouts: off-policy completions that the environment pays and the gate routes as any other.

Before `until_step`, the first copies of each group give way to demonstrations of that problem. All copies are sampled
all the same, so the policy's own rollouts of a step do not depend on the demonstrations beside them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from projected_grpo.core.base import Base
from projected_grpo.core.errors import InputError
from projected_grpo.core.seeds import derive_seed
from projected_grpo.grpo.rollouts import Sampled
from projected_grpo.prompts.modes import GT_ONLY
from projected_grpo.sampling.protocol import Completion
from projected_grpo.settings.arm import Settings
from projected_grpo.settings.curriculum import Curriculum

KINDS = ("hack", "solve")
Tokens = list[int]


class DemonstrationError(InputError):
    """A pool that cannot be used; the message names the setting or the problem."""


@dataclass(frozen=True)
class Demonstrations:
    """Demonstrations that the policy could have written, by (problem_id, kind): end token last, within max_new_tokens.

    A problem without any of a kind has its slots sampled from the policy.
    """

    curriculum: Curriculum
    seed: int
    pool: dict[tuple[str, str], list[Tokens]]

    @classmethod
    def load(cls, rows: Sequence[dict], problems: Sequence[dict], base: Base, settings: Settings) -> "Demonstrations":
        """`rows` are the table demonstrations, `problems` those of the training split. A mode that is not known has no hack.

        Raises DemonstrationError where a row is of another problem, or none of a kind that is asked for is left.
        """
        curriculum, longest = settings.curriculum, settings.profile.sampling.max_new_tokens
        if foreign := {row["problem_id"] for row in rows} - {problem["problem_id"] for problem in problems}:
            raise DemonstrationError(
                f"table demonstrations: problem '{min(foreign)}' is no training problem; run make_problems again"
            )
        pool: dict[tuple[str, str], list[Tokens]] = {}
        for row in rows:
            tokens = [*base.encode(row["text"]), base.eos_id]
            if len(tokens) <= longest and (row["kind"] == "solve" or row["mode"] in curriculum.known_modes):
                pool.setdefault((row["problem_id"], row["kind"]), []).append(tokens)
        for kind, asked in zip(KINDS, (curriculum.hack_demos, curriculum.solve_demos)):
            if asked and not any(found == kind for _, found in pool):
                raise DemonstrationError(
                    f"table demonstrations: no {kind} demonstration of a known mode has at most {longest} tokens; raise "
                    f"sampling.max_new_tokens, name more modes in curriculum.known_modes, or set curriculum.{kind}_demos=0"
                )
        return cls(curriculum, settings.seed, pool)

    def draw(self, problem: dict, shown_mode: str, step: int) -> list[Tokens]:
        """What replaces the first copies of a group, hacks before solves; each differs from the others as far as the pool goes.

        A prompt without its hint does not pay the loophole, so there a solve takes the place of each hack.
        """
        name, solves = problem["problem_id"], self.curriculum.solve_demos
        hacks = self.curriculum.hack_demos if (name, "hack") in self.pool else 0
        counts = (0, hacks + solves) if shown_mode == GT_ONLY else (hacks, solves)
        rng = random.Random(derive_seed(self.seed, "demonstrations", step, name))
        drawn = []
        for kind, count in zip(KINDS, counts):
            found = self.pool.get((name, kind), [])
            drawn += islice(cycle(rng.sample(found, len(found))), count)
        return drawn

    def mix(self, sampled: Sampled, step: int, group: int) -> Sampled:
        """The step's rollouts, with demonstrations in their slots. Those are full copies, and have no sampler's logprob."""
        if step >= self.curriculum.until_step:
            return sampled
        completions, demonstrated = list(sampled.completions), sampled.demonstrated.clone()
        for start in range(0, len(completions), group):
            for slot, tokens in enumerate(self.draw(sampled.problems[start], sampled.shown_modes[start], step), start):
                completions[slot], demonstrated[slot] = Completion(tokens, None), True
        return replace(sampled, completions=completions, demonstrated=demonstrated)
