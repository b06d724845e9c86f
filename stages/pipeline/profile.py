"""Write the settings of the profile, those that it takes over from another among them, for DVC to compare key by key."""

from pathlib import Path
from typing import Annotated

import typer
from ruamel.yaml import YAML

from projected_grpo.core.runtime import run_stage
from projected_grpo.settings.arm import load_settings


def main(out: Annotated[Path, typer.Option(help="Settings of the profile, written as YAML.")]) -> None:
    settings = load_settings()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") as file:
        YAML().dump(settings.profile.model_dump(), file)
    print(f"profile {settings.profile_name} -> {out}")


if __name__ == "__main__":
    run_stage(main)
