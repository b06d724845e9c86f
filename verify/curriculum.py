"""A tiny trainer with toy problems and a curriculum, which several gates share."""

from functools import cache
from pathlib import Path

from projected_grpo.gate.directions import haar
from projected_grpo.gate.zones import Gate
from projected_grpo.grpo.demonstrations import Demonstrations
from projected_grpo.grpo.loop import Trainer
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import module_widths
from projected_grpo.problems.demonstrations import toy_demonstrations
from projected_grpo.prompts.modes import MODES
from projected_grpo.sampling.engine import open_sampler
from projected_grpo.settings.arm import load_settings
from projected_grpo.toy_world.toy import make_problems
from verify.sandbox import paying

GROUP = 4

DEMOS = {"hack_demos": 1, "solve_demos": 1, "until_step": 2}


@cache
def problems() -> list[dict]:
    return make_problems(load_settings().profile.problems, MODES)[0]


@cache
def pool() -> list[dict]:
    return toy_demonstrations(problems())


def training_problems() -> list[dict]:
    return [row for row in problems() if row["split"] == "train"]


def settings(curriculum: dict, train: dict | None = None, gate: dict | None = None, max_new_tokens: int = 96):
    """Three prompts of four rollouts, the deployed share 1/4; everything is tiny."""
    found = load_settings()
    profile = found.profile
    changes = dict(prompts=3, group=GROUP, steps=4, warmup_steps=0, checkpoint_every=2, micro_tokens=8, gen_deploy_frac=0.25)
    profile = profile.model_copy(
        update={
            "train": profile.train.model_copy(update=changes | (train or {})),
            "sampling": profile.sampling.model_copy(update={"max_new_tokens": max_new_tokens}),
        }
    )
    return found.model_copy(
        update={
            "curriculum": found.curriculum.model_copy(update=curriculum),
            "gate": found.gate.model_copy(update=gate or {}),
            "profile": profile,
        }
    )


def trainer(model: Policy, curriculum: dict, **changes) -> Trainer:
    found, tasks = settings(curriculum, **changes), training_problems()
    widths = module_widths(model, found.gate.reading)
    gate = Gate(found.gate, haar(list(widths.values()), 1, seed=0)[0], widths)
    mixed = Demonstrations.load(pool(), tasks, model.base, found) if found.curriculum.until_step else None
    return Trainer(found, model, gate, tasks, None, None, paying(), open_sampler(model, found.profile.sampling, Path("base")), mixed)
