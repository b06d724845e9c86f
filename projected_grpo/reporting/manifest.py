"""The manifest of a run: which arm, at which settings, and the facts of its training."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from projected_grpo.core.errors import InputError
from projected_grpo.settings.arm import DRAWN, SCORED, Settings, uses_ground_truth


class ManifestError(InputError):
    """A manifest.json that cannot be used; the message names the file and the key."""


class Arm(BaseModel):
    model_config = ConfigDict(frozen=True)
    policy: str = Field(alias="gate.policy")
    direction: str = Field(alias="gate.direction")
    draw: int = Field(alias="gate.draw")
    monitor: str = Field(alias="monitor.kind")
    use: str = Field(alias="monitor.use")
    inoculate: bool = Field(alias="curriculum.inoculate")

    @classmethod
    def of(cls, settings: Settings) -> "Arm":
        return cls.model_validate(arm_keys(settings))

    @property
    def uses_ground_truth(self) -> bool:
        return uses_ground_truth(self.direction, self.monitor)

    @property
    def group(self) -> str:
        """The arm without its draw: draws of one direction are replicates, as seeds are.

        The name of an arm that uses ground truth says so.
        """
        if self.inoculate:
            name = "inoculated"
        elif self.by_direction:
            name = f"{'discount' if self.use == 'discount' else self.policy} {self.direction}"
        elif self.use != "none":
            name = self.use if self.uses_ground_truth else f"{self.use} {self.monitor}"
        else:
            name = self.policy
        return f"{name} (uses ground truth)" if self.uses_ground_truth else name

    @property
    def name(self) -> str:
        return f"{self.group} {self.draw}" if self.by_direction and self.direction in DRAWN else self.group

    @property
    def by_direction(self) -> bool:
        return self.policy in SCORED or self.use == "discount"


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)
    arm: Arm
    settings: dict[str, Any]  # the whole resolved settings, nested
    inputs: dict[str, str]  # name of an input table -> sha256
    resumed_from_step: int | None
    diverged_at_step: int | None  # from 0; null where the tripwire did not end training
    seconds_by_phase: dict[str, list[float]]  # phase -> seconds of each step
    versions: dict[str, Any]

    @model_validator(mode="after")
    def _names_the_run(self) -> "Manifest":
        for key in ("profile_name", "profile", "seed"):
            if key not in self.settings:
                raise ValueError(f"settings.{key} is missing")
        return self


def arm_keys(settings: Settings) -> dict[str, Any]:
    """{'gate.policy': ..., 'monitor.kind': ...}: the settings among which an arm's are."""
    sections = {name: getattr(settings, name).model_dump() for name in ("gate", "monitor")}
    sections["curriculum"] = {"inoculate": settings.curriculum.inoculate}
    return {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}


def describe(settings: Settings, inputs: dict[str, Path], run: Path) -> dict[str, Any]:
    """The manifest of the arm that `settings` name. `run` holds what train_arm noted of its run, as JSON; `inputs` are
    the tables that runs must share to be comparable, by name. Raises ManifestError where `run` is not JSON."""
    try:
        facts = json.loads(run.read_text())
    except ValueError as error:
        raise ManifestError(f"{run}: cannot be read as JSON: {error}; run train_arm again") from error
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in inputs.items()}
    return {"arm": arm_keys(settings), "settings": settings.model_dump(), "inputs": digests, **facts}


def parse_manifest(text: str, source: str) -> Manifest:
    """The manifest in `text`. Raises ManifestError, which names `source` and the key."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        lines = [
            f"{source}: key '{'.'.join(str(part) for part in item['loc']) or '(the whole file)'}': {item['msg']}"
            for item in error.errors()
        ]
        raise ManifestError("\n".join(lines)) from error


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'gate': {'draw': 0}} -> {'gate.draw': 0}, in the order of the settings."""
    flat = {}
    for key, value in settings.items():
        inner = flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        flat |= inner
    return flat
