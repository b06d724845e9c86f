"""The settings of a monitor during training: which kind, and what an arm does with the rollouts that it flags."""

from typing import Literal

from pydantic import model_validator

from projected_grpo.settings.section import Section, Share

LABELLED = ("labelled", "labelled_masses")  # policies of the gate that take the ground-truth monitor's word


class Monitor(Section):
    kind: Literal["none", "ground_truth", "probe", "judge", "direction"]  # which monitor watches training
    use: Literal["none", "penalty", "screening", "discount"]  # what an arm does with the rollouts that it flags
    false_positive_rate: Share  # of the probe on clean sides that were held out of its fit; sets its threshold
    judge: str  # folder of a transformers model, or address of an OpenAI-compatible endpoint
    judge_model: str  # the endpoint's name for its model; empty for a folder
    judge_threshold: Share  # suspicion from which the judge flags

    @property
    def judge_is_endpoint(self) -> bool:
        return self.judge.startswith(("http://", "https://"))

    @model_validator(mode="after")
    def _used_and_reachable(self) -> "Monitor":
        if self.use != "none" and self.kind == "none":
            raise ValueError(
                f"monitor.use is {self.use}, but monitor.kind is none, so no rollout would be flagged; "
                "set monitor.kind=ground_truth, probe, judge or direction, or monitor.use=none"
            )
        if (self.use == "discount") != (self.kind == "direction"):
            raise ValueError(
                f"monitor.kind is {self.kind} and monitor.use is {self.use}; the direction's score within a group discounts rewards, "
                "and nothing else does; set monitor.kind=direction and monitor.use=discount, or neither"
            )
        if self.judge_is_endpoint != bool(self.judge_model):
            raise ValueError(
                f"monitor.judge is {self.judge!r} and monitor.judge_model is {self.judge_model!r}; an endpoint needs the "
                "name of its model and a folder has none; set monitor.judge_model for an address, and '' for a folder"
            )
        return self

    def check(self, policy: str, inoculate: bool) -> None:
        """Raises ValueError where gate.policy, curriculum.inoculate and this section are not one intervention."""
        kind, use = self.kind, self.use
        if inoculate and (policy, kind) != ("none", "none"):
            raise ValueError(
                f"curriculum.inoculate is true, gate.policy is {policy} and monitor.kind is {kind}; an arm has one intervention, so "
                "that a comparison says what it did; set gate.policy=none and monitor.kind=none, or curriculum.inoculate=false"
            )
        if policy in LABELLED and (kind, use) != ("ground_truth", "none"):
            raise ValueError(
                f"gate.policy is {policy}, but monitor.kind is {kind} and monitor.use is {use}; ground truth routes in "
                "this arm and nothing else intervenes; set monitor.kind=ground_truth and monitor.use=none"
            )
        if use != "none" and policy != "none":
            raise ValueError(
                f"monitor.use is {use} and gate.policy is {policy}; an arm has one intervention, so that a comparison "
                "says what it did; set gate.policy=none, or monitor.kind=none and monitor.use=none"
            )
        if kind != "none" and use == "none" and policy not in LABELLED:
            raise ValueError(
                f"monitor.kind is {kind}, but nothing uses it; set monitor.use=penalty or screening with "
                "gate.policy=none, or gate.policy=labelled with monitor.kind=ground_truth, or monitor.kind=none"
            )
