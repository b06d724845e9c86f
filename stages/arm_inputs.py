"""Gather what makes one arm of a campaign: its settings file, its direction, the pairs of its cuts, its monitor."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from ruamel.yaml import YAML

from projected_grpo.core.runtime import PARAMS, Params, run_stage
from projected_grpo.settings.arm import load_settings, read_yaml
from projected_grpo.settings.campaign import arm_params, load_campaign


def main(
    campaign: Annotated[Path, typer.Option(help="Settings file of the campaign.")],
    arm: Annotated[str, typer.Option(help="Name of the arm.")],
    direction: Annotated[Path, typer.Option(help="Folder of the direction.")],
    cut_pairs: Annotated[Path, typer.Option(help="Table pairs: those whose scores set the cuts; empty where none do.")],
    monitor: Annotated[Path, typer.Option(help="Folder of the arm's kind of monitor.")],
    out: Annotated[Path, typer.Option(help="Folder of the arm, written.")],
    params: Params = PARAMS,
) -> None:
    load_settings(params=params)
    settings = arm_params(load_campaign(campaign), arm, read_yaml(params))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "params.yaml").open("w") as file:
        YAML().dump(settings, file)
    load_settings(params=out / "params.yaml")
    shutil.copytree(direction, out / "direction", dirs_exist_ok=True)
    shutil.copytree(monitor, out / "monitor", dirs_exist_ok=True)
    shutil.copy2(cut_pairs, out / "cuts.parquet")
    print(f"settings and inputs of the arm {arm} -> {out}")


if __name__ == "__main__":
    run_stage(main)
