"""A campaign's params.yaml: its arms, its seeds, and why each arm is run."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from projected_grpo.settings.arm import SettingsError, check, read_yaml
from projected_grpo.settings.profile import Count, Section

ARM_SECTIONS = ("gate", "monitor", "curriculum")  # what arms may differ in; all else is shared
SHARED_KEYS = (  # directions and probe are made with them
    *("gate.draw", "gate.extraction", "gate.features", "gate.refresh_every"),
    "monitor.false_positive_rate",
)
ONE_CURRICULUM = {"pool": "none", "heal_pairs": "none", "warm_start": "starts/zero"}  # of every cell, by the campaign's dvc.yaml
READINGS = {"site", "score"}  # of the gate: what it reads


class CampaignError(SettingsError):
    """A campaign that cannot be run; the message names the file and the key."""


class CampaignArm(Section):
    why: str  # what the arm is for
    resolve: str  # what its result decides
    gate: dict[str, Any]  # in place of those of the project's params.yaml, as are the next two
    monitor: dict[str, Any]
    curriculum: dict[str, Any]


class Cell(Section):
    """A run of the campaign."""

    arm: str
    seed: str  # as DVC names a cell after it


class Campaign(Section):
    profile: str
    cpus: Count  # of one cell, as are the next two; they limit how many run at once
    gpus: Annotated[float, Field(ge=0.0)]  # on a Ray cluster; a part of one lets cells share it
    memory_gb: Count
    offline_run: str  # <arm>/<seed>: the run whose saved readings the offline gate test scores
    seeds: list[str]  # of the cells, each once
    arm: dict[str, CampaignArm]
    cells: dict[str, Cell]  # by <seed>-<arm>, in the order in which they are run

    @model_validator(mode="after")
    def _agree(self) -> "Campaign":
        if wrong := [seed for seed in self.seeds if not seed.isdigit()]:
            raise ValueError(f"seeds holds {wrong[0]!r}, expected a whole number in quotes")
        for name, cell in self.cells.items():
            if name != f"{cell.seed}-{cell.arm}":
                raise ValueError(f"cells.{name} is arm {cell.arm} with seed {cell.seed}; name it {cell.seed}-{cell.arm}")
            if cell.arm not in self.arm:
                raise ValueError(f"cells.{name}.arm is {cell.arm}, which the section arm lacks")
        if (own := list(dict.fromkeys(cell.seed for cell in self.cells.values()))) != self.seeds:
            raise ValueError(f"seeds is {', '.join(self.seeds)}, but the cells have {', '.join(own)}; list those of the cells")
        if self.offline_run not in {f"{arm}/{seed}" for arm, seed in self.runs}:
            raise ValueError(f"offline_run is {self.offline_run}, which is no cell of the campaign; give an arm/seed")
        for name, arm in self.arm.items():
            given = {f"{section}.{key}" for section in ARM_SECTIONS for key in getattr(arm, section)}
            if shared := sorted(given & set(SHARED_KEYS)):
                raise ValueError(
                    f"arm.{name} sets {', '.join(shared)}, which all cells share; set it in the project's params.yaml"
                )
            if fixed := sorted(set(ONE_CURRICULUM) & set(arm.curriculum)):
                raise ValueError(f"arm.{name} sets curriculum.{fixed[0]}, which the campaign's dvc.yaml sets to {ONE_CURRICULUM[fixed[0]]} in every cell; leave it out")
            if arm.monitor.get("kind") == "probe" and (own := sorted(READINGS & set(arm.gate))):
                raise ValueError(
                    f"arm.{name} has a probe, which is fitted once for all cells on what the project's gate reads, and sets "
                    f"gate.{own[0]}; leave that out, and set it in the project's params.yaml"
                )
        return self

    @property
    def runs(self) -> list[tuple[str, str]]:
        """(arm, seed) of every cell."""
        return [(cell.arm, cell.seed) for cell in self.cells.values()]


def load_campaign(path: Path) -> Campaign:
    """Raises SettingsError, which names the file and the key."""
    return check(Campaign, read_yaml(path), path)


def arm_params(campaign: Campaign, name: str, params: dict[str, Any]) -> dict[str, Any]:
    """The settings file of an arm: `params`, the project's own, with the arm's changes; cells bring seed and draw.

    Raises CampaignError where the arm is unknown, or `params` is set to another profile or to what the cells do not have.
    """
    if name not in campaign.arm:
        raise CampaignError(f"arm '{name}': the campaign has {', '.join(campaign.arm)}")
    if params["profile"] != campaign.profile:
        raise CampaignError(
            f"params.yaml: key 'profile': found {params['profile']}, expected {campaign.profile}, whose base model, problems "
            "and directions the campaign shares; set it back"
        )
    if params["launch"] != "python":
        raise CampaignError(f"params.yaml: key 'launch': found {params['launch']!r}, expected 'python', as a cell is one process; set it back")
    for key, wanted in ONE_CURRICULUM.items():
        if params["curriculum"][key] != wanted:
            found = params["curriculum"][key]
            raise CampaignError(f"params.yaml: key 'curriculum.{key}': found {found!r}, expected {wanted!r}, with which cells train; set it back")
    arm = campaign.arm[name]
    changed = {section: params[section] | getattr(arm, section) for section in ARM_SECTIONS}
    return params | changed | {"seed": 0, "gate": changed["gate"] | {"draw": 0}}
