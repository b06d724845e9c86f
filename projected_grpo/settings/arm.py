"""Typed settings: params.yaml says what makes an arm (its curriculum in curriculum.py), profiles/<name>.yaml (profile.py)
at which scale it runs.

Each top-level section is the unit of invalidation: a stage lists the sections that it reads in dvc.yaml. An unknown
key, a missing key or a value of the wrong type is an error that names the file and the key.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from projected_grpo.settings.curriculum import Curriculum
from projected_grpo.settings.files import SettingsError, check, profile_path, read_profile, read_yaml, require_recorded
from projected_grpo.settings.monitor import Monitor
from projected_grpo.settings.profile import Profile
from projected_grpo.settings.section import Count, Natural, Positive, Section

RECORDS = "profile"  # the stage that writes artifacts/profile.yaml; DVC names the running stage in the environment
Tail = Annotated[float, Field(ge=0.0, lt=0.5)]
PAIRED = ("v_act", "shuffled", "flipped", "irrelevant", "self_generated")  # directions that are extracted from pairs
DIRECTIONS = (*PAIRED, "haar", "oracle")
DRAWN = ("haar", "shuffled")  # directions of which there are several draws
PERMUTED = ("permuted_step", "permuted_sign", "permuted_prompt_sign")  # zones by the score, permuted within what the name says
SCORED = ("route", *PERMUTED, "labelled_masses")  # policies in which the scores set the zones, or how many rollouts each has
Reading = Literal["bottleneck", "residual", "output", "gradient"]


class Gate(Section):
    policy: Literal[  # what decides the zones; none: rank 2r trains and deploys as one block
        "none", "absorb", "route", "permuted_step", "permuted_sign", "permuted_prompt_sign", "labelled", "labelled_masses"
    ]
    direction: str  # along which rollouts are scored: v_act, shuffled, flipped, irrelevant, self_generated, haar, oracle, or directions/NAME.parquet
    draw: Natural  # which draw of haar or shuffled; 0 for the others
    site: Literal["bottleneck", "residual", "output"]  # where the gate reads
    score: Literal["activation", "gradient"]  # gradient: of the completion's likelihood, at the bottleneck
    modules: str  # regular expression: modules whose part of the reading counts
    standardised: bool  # each module's dot product on its own mean and deviation before they are added
    extraction: Literal["mean", "t_statistic"]  # of a direction from pairs
    cuts: Literal["quantile", "pairs"]  # the run's own quantiles, or the authored pairs' scores under the current model
    keep_quantile: Tail  # mass of the keep tail; 0: none is kept
    route_quantile: Tail  # mass of the route tail; 0: none is routed
    half_life: Positive | None  # rollouts after which a score counts half in the quantiles; null: all count alike
    buffer: Count  # rollouts whose readings are kept for rescoring
    warmup: Natural  # rollouts in the buffer before any rollout is kept or routed
    refresh_every: Natural  # steps between updates of the direction to the current weights; 0: never
    masking: Literal["output", "parameter"]  # a block that does not train: its output detached, or its parameters alone
    features: list[Reading]  # readings that are saved, so that any direction can be scored there afterwards

    @property
    def reading(self) -> str:
        """What the gate scores."""
        return "gradient" if self.score == "gradient" else self.site

    @property
    def direction_name(self) -> str:
        """As the table directions has it."""
        return Path(self.direction).stem

    @field_validator("direction")
    @classmethod
    def _known(cls, direction: str) -> str:
        own = re.fullmatch(r"directions/([\w-]+)\.parquet", direction)
        if direction not in DIRECTIONS and not (own and own[1] not in DIRECTIONS):
            raise ValueError(f"found {direction!r}, expected {', '.join(DIRECTIONS)}, or a table of your own, directions/NAME.parquet, of another name than these")
        return direction

    @model_validator(mode="after")
    def _direction_acts(self) -> "Gate":
        if self.draw != 0 and self.direction not in DRAWN:
            raise ValueError(f"gate.draw is {self.draw}, but {self.direction} has one draw; set gate.draw=0")
        routed = f"the zones of gate.policy={self.policy} follow from no direction; set gate.policy=route, one that starts with permuted, or"
        if self.direction == "oracle" and self.policy not in SCORED:
            raise ValueError(
                f"gate.direction is oracle, which uses ground truth, but {routed} another direction (the oracle's scores are in the "
                "diagnostics of every arm)"
            )
        if self.cuts == "pairs" and self.policy not in SCORED:
            raise ValueError(f"gate.cuts is pairs, which training then depends on, but {routed} gate.cuts=quantile")
        return self

    @model_validator(mode="after")
    def _readings_agree(self) -> "Gate":
        if self.score == "gradient" and self.site != "bottleneck":
            raise ValueError(f"gate.score=gradient reads at the bottleneck, but gate.site is {self.site}; set it to bottleneck")
        if self.refresh_every and self.direction not in PAIRED and self.reading != "bottleneck":
            raise ValueError(
                f"gate.refresh_every is {self.refresh_every}, but {self.direction} is defined by no pair, and only at the "
                f"bottleneck can it follow the weights; set gate.refresh_every=0 in all arms, or gate.site=bottleneck"
            )
        if self.reading not in self.features:
            raise ValueError(f"gate.features lacks {self.reading}, which the gate scores; add it")
        if len(set(self.features)) < len(self.features):
            raise ValueError(f"gate.features names a reading twice: {', '.join(self.features)}; name each once")
        if self.warmup > self.buffer:
            raise ValueError(
                f"gate.warmup is {self.warmup}, but gate.buffer holds {self.buffer} readings at most, so no rollout would ever be kept or "
                "routed; lower gate.warmup or raise gate.buffer"
            )
        try:
            re.compile(self.modules)
        except re.error as error:
            raise ValueError(f"gate.modules is no regular expression: {error}") from error
        return self


class Adapter(Section):
    init: Literal["gaussian", "pissa", "corda", "scorda", "scorda_reversed", "antipasto"]  # in policy/inits.py
    rank: Count  # r of each block; the adapter has rank 2r
    seed: Natural  # of the gaussian initialization; shared by the seeds of a comparison, as the directions are


class Placebo(Section):
    draws: Count  # K Haar-random directions, and K shuffled ones


class Offline(Section):
    draws: Count  # of each null of the offline gate test: Haar draws, and sign patterns where there are more
    memory_mb: Count  # megabytes of scores at once, besides the readings


class Settings(Section):
    """params.yaml. Its key `profile` is the name of a file in profiles/, whose settings are `profile` here."""

    profile_name: str  # name of a file in profiles/
    seed: Natural  # of the run; all streams of random numbers follow from it by name
    launch: Annotated[str, Field(pattern=r"^(python|torchrun .+)$")]  # of train_arm, by dvc.yaml
    gate: Gate
    adapter: Adapter
    placebo: Placebo
    offline: Offline
    curriculum: Curriculum
    monitor: Monitor
    profile: Profile

    def seeded(self, seed: int) -> "Settings":
        """The same arm with another seed, which is also the draw of a direction that has draws."""
        gate = self.gate.model_copy(update={"draw": seed}) if self.gate.direction in DRAWN else self.gate
        return self.model_copy(update={"seed": seed, "gate": gate})

    @property
    def uses_ground_truth(self) -> bool:
        return uses_ground_truth(self.gate.direction, self.monitor.kind)

    @model_validator(mode="after")
    def _one_intervention(self) -> "Settings":
        self.monitor.check(self.gate.policy, self.curriculum.inoculate)
        if self.monitor.kind == "direction" and self.gate.refresh_every:
            raise ValueError(
                f"monitor.kind is direction, which scores along the direction as it was made, but gate.refresh_every is {self.gate.refresh_every}; "
                "set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _gate_fits_the_run(self) -> "Settings":
        gate, train = self.gate, self.profile.train
        if gate.draw >= self.placebo.draws:
            raise ValueError(
                f"gate.draw is {gate.draw}, but placebo.draws makes {self.placebo.draws}, counted from 0; lower one or raise the other"
            )
        if gate.refresh_every >= train.steps:
            raise ValueError(
                f"gate.refresh_every is {gate.refresh_every}, but train.steps is {train.steps}, so no refresh would come before the "
                "last step; lower it, or set it to 0"
            )
        if gate.buffer < (rollouts := train.prompts * train.group):
            raise ValueError(
                f"gate.buffer is {gate.buffer}, but a step has up to {rollouts} rollouts (train.prompts x train.group), so the cuts "
                f"would not see all of the current step; set it to {rollouts} or more"
            )
        return self

    @model_validator(mode="after")
    def _the_environment_has_demonstrations(self) -> "Settings":
        if self.curriculum.until_step and self.profile.environment != "code":
            raise ValueError(
                f"curriculum.until_step is {self.curriculum.until_step} and environment is {self.profile.environment}, which has no demonstrations; "
                "set until_step, hack_demos and solve_demos to 0, in the curriculum or, where it has null, in the profile's demonstrations"
            )
        return self

    @model_validator(mode="after")
    def _demonstrations_fit_the_group(self) -> "Settings":
        demos = self.curriculum.hack_demos + self.curriculum.solve_demos
        full = self.profile.train.group - deployed_copies(self)
        if demos > full:
            raise ValueError(
                f"curriculum.hack_demos + curriculum.solve_demos is {demos}, but demonstrations replace full copies, of "
                f"which a group has {full} (train.group, less train.gen_deploy_frac of it under a gate.policy other than "
                "none); lower them, or train.gen_deploy_frac"
            )
        return self


def deployed_copies(settings: Settings) -> int:
    """Rollouts of each group that are sampled with the quarantine ablated; where rank 2r deploys whole, there are none."""
    train = settings.profile.train
    return 0 if settings.gate.policy == "none" else int(train.group * train.gen_deploy_frac)


def uses_ground_truth(direction: str, monitor: str) -> bool:
    """Whether labels of the ground-truth monitor reach the updates of an arm: gate.direction, monitor.kind."""
    return monitor == "ground_truth" or direction == "oracle"


def load_settings(root: Path = Path("."), params: Path = Path("params.yaml"), seed: int | None = None) -> Settings:
    """Read and check the settings file `params` and its profile, both below `root`. Raises SettingsError.

    `seed` takes the place of the file's, as in the cells of a campaign, which share their arm's file.
    """
    arm = read_yaml(root / params)
    name = arm.get("profile")
    if not isinstance(name, str):
        raise SettingsError(f"{params}: key 'profile': found {name!r}, expected the name of a file in profiles/")
    if "profile_name" in arm:
        raise SettingsError(f"{params}: key 'profile_name': unknown key; the key 'profile' names the file in profiles/")
    path = profile_path(root, name, f"{params}: key 'profile'")
    profile = check(Profile, read_profile(path), path)
    if os.environ.get("DVC_STAGE", RECORDS) != RECORDS:
        require_recorded(profile, path)
    if isinstance(curriculum := arm.get("curriculum"), dict):
        arm["curriculum"] = curriculum | {key: value for key, value in profile.demonstrations if curriculum.get(key, value) is None}
    settings = check(Settings, arm | {"profile_name": name, "profile": profile}, root / params)
    return settings if seed is None else settings.seeded(seed)
