"""The plan of a campaign: which runs there are and how they are judged, fixed before the first of them.

A plan is a Markdown file. Its YAML front matter holds the settings below, and its prose says why. The SHA-256 of the
whole file's bytes is part of the verdict, so a verdict names the plan that it was made by.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from projected_grpo.errors import InputError
from projected_grpo.scale import Count, Natural, Positive, Section, Share

FENCE = "---"
MOST_SEEDS = 16  # the exact test goes through 2^seeds patterns of signs
Level = Annotated[float, Field(gt=0.0, lt=1.0)]


class PlanError(InputError):
    """A plan that cannot be used; the message names the file and the key."""


class Contrast(Section):
    """The treatment routes by v_act, the placebo by a Haar direction; the verdict's wording speaks of these."""

    name: str
    treatment: str
    placebo: str
    yoked: str | None  # arm with the treatment's zones permuted, shown beside the contrast


class MachineryControl(Section):
    """Routing by ground truth must lower the deployed hack rate, or no direction could be seen to."""

    upper: str  # arm that routes by ground truth
    reference: str  # arm that routes nothing
    at_least: Positive  # deployed hack rate, reference minus upper


class Margins(Section):
    hack: Positive  # a smaller difference of deployed hack rates counts as none
    solve: Positive  # a smaller loss of deployed solve rate counts as none


class Exclusions(Section):
    diverged: bool  # runs that did not reach their last step


class Plan(Section):
    arms: list[str]
    seeds: list[Natural]
    contrasts: list[Contrast]  # the first is the primary one
    machinery_control: MachineryControl
    margins: Margins
    alpha: Level
    power_wanted: Annotated[float, Field(ge=0.5, lt=1.0)]
    qmass_difference: Share  # largest |mean difference of qmass| at which the raw contrast is trusted alone
    hacked_over: Share  # a run above this deployed hack rate counts as hacked
    exclusions: Exclusions
    min_seeds: Count  # seeds that a contrast needs after exclusions
    bootstrap_draws: Count
    stopping: str

    @model_validator(mode="after")
    def _names_are_known_and_unique(self) -> "Plan":
        if not self.contrasts:
            raise ValueError("contrasts is empty; list at least one contrast, the primary one first")
        lists = {"arms": self.arms, "seeds": self.seeds, "contrasts[].name": [contrast.name for contrast in self.contrasts]}
        for key, values in lists.items():
            if repeated := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{key} holds {repeated[0]!r} twice; name each once")
        for key, arm in self._arms_named():
            if arm not in self.arms:
                raise ValueError(f"{key} is {arm!r}, which is not in arms ({', '.join(self.arms)}); add it there")
        for place, contrast in enumerate(self.contrasts):
            if contrast.treatment == contrast.placebo:
                raise ValueError(f"contrasts.{place}.placebo is {contrast.placebo!r}, as the treatment; name another arm")
        if self.machinery_control.upper == self.machinery_control.reference:
            raise ValueError("machinery_control.reference is the same arm as machinery_control.upper; name another arm")
        return self

    @model_validator(mode="after")
    def _seeds_suffice(self) -> "Plan":
        if not self.min_seeds <= len(self.seeds) <= MOST_SEEDS:
            raise ValueError(f"seeds has {len(self.seeds)}, expected min_seeds ({self.min_seeds}) to {MOST_SEEDS} of them")
        if 2 / 2**self.min_seeds > self.alpha / 2:
            raise ValueError(
                f"min_seeds is {self.min_seeds}, with which the smallest p-value, 2/2^{self.min_seeds}, is over alpha / 2, the "
                "first level of Holm; raise it"
            )
        return self

    def _arms_named(self) -> list[tuple[str, str]]:
        """(key, arm) of every arm that the analysis needs."""
        control = self.machinery_control
        named = [("machinery_control.upper", control.upper), ("machinery_control.reference", control.reference)]
        for place, contrast in enumerate(self.contrasts):
            named += [(f"contrasts.{place}.{key}", getattr(contrast, key)) for key in ("treatment", "placebo")]
            named += [(f"contrasts.{place}.yoked", contrast.yoked)] if contrast.yoked is not None else []
        return named


def load_plan(path: Path) -> tuple[Plan, str]:
    """The plan and the SHA-256 of the file's bytes. Raises PlanError, which names the file and the key."""
    try:
        data = path.read_bytes()
        front = _front_matter(data.decode(), path)
        settings = YAML(typ="safe").load(front)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise PlanError(f"{path}: cannot be read as Markdown with YAML front matter: {error}") from error
    return _check(settings, path), hashlib.sha256(data).hexdigest()


def _front_matter(text: str, path: Path) -> str:
    lines = text.splitlines()
    if lines[:1] != [FENCE] or FENCE not in lines[1:]:
        raise PlanError(f"{path}: found no front matter; expected YAML between two lines '{FENCE}' at the top of the file")
    return "\n".join(lines[1 : lines.index(FENCE, 1)])


def _check(settings: Any, path: Path) -> Plan:
    try:
        return Plan.model_validate(settings)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"]) or "(the whole front matter)"
            found = "" if item["type"] in ("missing", "value_error") else f"; found {item['input']!r}"
            lines.append(f"{path}: key '{key}': {item['msg']}{found}")
        raise PlanError("\n".join(lines)) from error
