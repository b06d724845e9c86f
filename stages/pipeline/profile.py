"""Write the settings of the scale, those that the profile takes over from another among them, for DVC to compare key by key."""

from pathlib import Path
from typing import Annotated

import typer
from ruamel.yaml import YAML

from projected_grpo.core.runtime import run_stage
from projected_grpo.settings.arm import load_settings


def main(out: Annotated[Path, typer.Option(help="Settings of the scale, written as YAML.")]) -> None:
    settings = load_settings()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") as file:
        YAML().dump(settings.scale.model_dump(), file)
    print(f"profile {settings.profile} -> {out}")


if __name__ == "__main__":
    run_stage(main)
