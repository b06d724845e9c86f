"""A campaign's params.yaml: its arms, its seeds, and why each arm is run."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from projected_grpo.settings.files import SettingsError, check, read_yaml
from projected_grpo.settings.section import Count, Section

ARM_SECTIONS = ("gate", "monitor", "curriculum")  # what arms may differ in; all else is shared
SHARED_KEYS = ("gate.draw", "gate.extraction", "gate.features", "gate.refresh_every")  # directions are made with them


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
    name: str  # of its folder, in dvc.yaml
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
        return self

    @property
    def runs(self) -> list[tuple[str, str]]:
        """(arm, seed) of every cell."""
        return [(cell.arm, cell.seed) for cell in self.cells.values()]


def load_campaign(path: Path) -> Campaign:
    """Raises SettingsError, which names the file and the key."""
    campaign = check(Campaign, read_yaml(path), path)
    if campaign.name != path.absolute().parent.name:
        raise CampaignError(f"{path}: key 'name': found {campaign.name!r}, expected {path.absolute().parent.name!r}, the name of its folder")
    return campaign


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
    arm = campaign.arm[name]
    changed = {section: params[section] | getattr(arm, section) for section in ARM_SECTIONS}
    return params | changed | {"seed": 0, "gate": changed["gate"] | {"draw": 0}}
