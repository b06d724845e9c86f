"""The plan of a campaign: which runs there are and how they are judged, fixed before the first of them.

A plan is a Markdown file. Its YAML front matter holds the settings below, and its prose says why. The SHA-256 of the
whole file's bytes is part of the verdict, so a verdict names the plan that it was made by.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from projected_grpo.core.errors import InputError
from projected_grpo.settings.section import Count, Natural, Positive, Section

FENCE = "---"
MOST_SEEDS = 16  # the exact test goes through 2^seeds patterns of signs
Level = Annotated[float, Field(gt=0.0, lt=1.0)]


class PlanError(InputError):
    """A plan that cannot be used; the message names the file and the key."""


class Block(Section):
    """All of these arms with all of these seeds. A campaign may end only between blocks."""

    seeds: list[Natural]
    arms: list[str]

    @property
    def cells(self) -> list[tuple[str, int]]:
        """(arm, seed), seed by seed."""
        return [(arm, seed) for seed in self.seeds for arm in self.arms]


class Claim(Section):
    """The method hacks less than each arm of `better_than`, and solves no less than any by margins.solve."""

    name: str
    method: str
    placebo: str  # routed by a Haar direction, as the method is by v_act
    random: str  # the method's zones permuted
    better_than: list[str]


class Secondary(Section):
    """A two-sided test. interaction: of the difference of hack rates on modes with pairs and on modes without."""

    kind: Literal["difference", "equivalence", "interaction"]
    first: str
    second: str

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.first} - {self.second}"


class Margins(Section):
    placebo: Positive  # difference of deployed hack rates from a placebo; also that of an equivalence
    reference: Positive  # difference of deployed hack rates from the reference, below which a direction adds nothing net
    solve: Positive  # loss of deployed solve rate


class Plan(Section):
    blocks: list[Block]
    reference: str  # arm with a quarantine to which nothing is routed
    claims: list[Claim]
    secondary: list[Secondary]
    margins: Margins
    alpha: Level  # two-sided; a claim is one-sided at half of it
    power_wanted: Annotated[float, Field(ge=0.5, lt=1.0)]
    min_seeds: Count  # complete seeds of a claim
    bootstrap_draws: Count
    stopping: str

    @property
    def cells(self) -> list[tuple[str, int]]:
        """(arm, seed) of every planned run, in the order in which they are run."""
        return [cell for block in self.blocks for cell in block.cells]

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(arm for arm, _ in self.cells))

    @property
    def seeds(self) -> list[int]:
        return list(dict.fromkeys(seed for _, seed in self.cells))

    @property
    def first_level(self) -> float:
        """One-sided level of a claim that Holm's method applies first."""
        return self.alpha / 2 / len(self.claims)

    @model_validator(mode="after")
    def _names_are_known_and_unique(self) -> "Plan":
        if not self.blocks or not self.claims:
            raise ValueError("blocks or claims is empty; list at least one block of runs and one claim about them")
        lists = {"cells of blocks": self.cells, "claims[].name": [claim.name for claim in self.claims], "secondary": [test.name for test in self.secondary]}
        for key, values in lists.items():
            if repeated := [value for value in values if values.count(value) > 1]:
                raise ValueError(f"{key} holds {repeated[0]!r} twice; name each once")
        for key, arm in self._arms_named():
            if arm not in self.arms:
                raise ValueError(f"{key} is {arm!r}, which is in no block ({', '.join(self.arms)}); add it there")
        for place, claim in enumerate(self.claims):
            if wanted := {self.reference, claim.placebo} - set(claim.better_than):
                raise ValueError(f"claims.{place}.better_than lacks {min(wanted)}; a claim is made against the placebo and against the reference")
            if claim.method in claim.better_than:
                raise ValueError(f"claims.{place}.better_than holds {claim.method!r}, the method itself; name other arms")
        return self

    @model_validator(mode="after")
    def _seeds_suffice(self) -> "Plan":
        if not self.min_seeds <= len(self.seeds) <= MOST_SEEDS:
            raise ValueError(f"blocks have {len(self.seeds)} seeds, expected min_seeds ({self.min_seeds}) to {MOST_SEEDS} of them")
        if 1 / 2**self.min_seeds > self.first_level:
            raise ValueError(
                f"min_seeds is {self.min_seeds}, with which the smallest p-value, 1/2^{self.min_seeds}, is over the first level of Holm's "
                f"method, {self.first_level:g}; raise it"
            )
        return self

    def _arms_named(self) -> list[tuple[str, str]]:
        """(key, arm) of every arm that the analysis needs."""
        named = [("reference", self.reference)]
        for place, claim in enumerate(self.claims):
            named += [(f"claims.{place}.{key}", getattr(claim, key)) for key in ("method", "placebo", "random")]
            named += [(f"claims.{place}.better_than", arm) for arm in claim.better_than]
        for place, test in enumerate(self.secondary):
            named += [(f"secondary.{place}.{key}", getattr(test, key)) for key in ("first", "second")]
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
