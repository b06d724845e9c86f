"""Settings of a profile, profiles/<name>.yaml: the model, the problems, the pairs, sampling, training, grading, evaluation."""

from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field, model_validator

from projected_grpo.settings.curriculum import NO_DEMONSTRATIONS, Demonstrated
from projected_grpo.settings.models import Model
from projected_grpo.settings.section import Count, Mode, Natural, Positive, Section, Share

Named = Annotated[str, Field(pattern=r"^(code|[\w.]+:\w+)$")]
PairSelector = Annotated[str, Field(pattern=r"^pairs/")]  # pairs/file.md[#prefix][@tag,tag]; DVC watches this folder


class ToyProblems(Section):
    kind: Literal["toy"]
    train: Count
    val: Count
    test: Count
    visible_tests: Annotated[int, Field(ge=5)]  # five are enough for no constant answer to pass
    heldout_tests: Count
    seed: Natural


class AuthoredProblems(Section):
    kind: Literal["authored"]
    path: Annotated[str, Field(pattern=r"^data/problems")]  # folder of YAML files, one a problem; DVC watches this folder
    train: Count
    val: Count
    test: Count
    seed: Natural


class LeetcodeProblems(Section):
    kind: Literal["leetcode"]
    path: str  # of the published set, never part of this repository: JSON lines, or hf://datasets/OWNER/NAME@COMMIT/FILE
    train: Count
    val: Count
    test: Count
    visible_tests: Count
    heldout_tests: Count
    max_prompt_chars: Count
    seed: Natural


class OwnProblems(Section):
    """Tasks of an environment of the user's own. Its function and that of its ground truth get all other keys of the section."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    kind: Literal["own"]

    @property
    def own(self) -> dict:
        return self.model_extra


Problems = ToyProblems | AuthoredProblems | LeetcodeProblems | OwnProblems


class GeneratedPairs(Section):
    """Pairs made of the base model's own completions, once."""

    samples: Count  # completions of a problem with its hint, and as many without
    pairs: Count  # at most
    modes: list[str]  # loopholes whose hints are shown


class Pairs(Section):
    selector: PairSelector
    irrelevant: PairSelector  # pairs whose sides differ in something that has nothing to do with a loophole
    generated: GeneratedPairs


class Sampling(Section):
    max_prompt_tokens: Count  # a problem with a longer prompt is refused before anything is sampled
    max_new_tokens: Count
    temperature: Positive


class LocalSampling(Sampling):
    """Our own decode loop."""

    engine: Literal["merged", "adapted"]  # on merged weights, or through the adapter
    rows: Count  # completions decoded at once


class VllmSampling(Sampling):
    engine: Literal["vllm"]
    temperature: Annotated[float, Field(ge=0.01, le=2.0)]  # vLLM takes less for 0.01, and refuses more
    tensor_parallel: Count  # devices that hold the engine's weights together
    memory_share: Annotated[float, Field(gt=0.0, lt=1.0)]  # of each device's memory, for the engine's weights and cache


class Train(Section):
    steps: Count
    prompts: Count  # prompts a step
    group: Annotated[int, Field(ge=2)]  # rollouts a prompt; one alone would have no advantage
    learning_rate: Positive
    warmup_steps: Natural
    decay: Annotated[float, Field(ge=0.0)]  # pull toward the initialization, per unit of learning rate
    grad_clip: Positive
    clip: Positive  # of the importance ratio, on each side of 1
    kl_beta: Annotated[float, Field(ge=0.0)]
    unhackable_share: Share  # of (step, problem) cells shown without the hint and graded on tests only
    gen_deploy_frac: Share  # of each group sampled with the quarantine ablated
    micro_tokens: Count  # tokens of a forward pass, padding included
    recompute_layers: bool  # gradient checkpointing: slower by a forward pass, and far less memory
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
    oracle_samples: Count  # completions of a training problem by the base model, from which the oracle direction is made


class Profile(Section):
    environment: Named = "code"  # code, or module:function of an environment of the user's own
    ground_truth: Named = "code"  # code, or module:function of its ground truth, which training does not read
    model: Model
    problems: Annotated[Problems, Field(discriminator="kind")]
    pairs: Pairs
    sampling: Annotated[LocalSampling | VllmSampling, Field(discriminator="engine")]
    train: Train
    demonstrations: Demonstrated = NO_DEMONSTRATIONS  # where params.yaml's curriculum has null
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

    @model_validator(mode="after")
    def _one_environment(self) -> "Profile":
        own = self.problems.kind == "own"
        if own != (self.environment != "code") or own != (self.ground_truth != "code"):
            raise ValueError(
                f"environment is {self.environment}, ground_truth is {self.ground_truth} and problems.kind is {self.problems.kind}; an environment "
                "of the user's own has a ground truth of its own and problems.kind=own, and code has neither; set all three"
            )
        if not own and (unknown := [mode for mode in self.pairs.generated.modes if mode not in get_args(Mode)]):
            raise ValueError(f"pairs.generated.modes names {unknown[0]!r}, expected loopholes of code: {', '.join(get_args(Mode))}")
        return self

    @model_validator(mode="after")
    def _the_adapter_is_not_rounded_away(self) -> "Profile":
        if self.model.kind != "toy" and self.model.dtype == "bfloat16" and self.sampling.engine == "merged":
            raise ValueError(
                "model.dtype is bfloat16 and sampling.engine is merged, but a bfloat16 weight rounds away most of an adapter "
                "that is merged into it; set sampling.engine=adapted, or model.dtype=float32"
            )
        return self
