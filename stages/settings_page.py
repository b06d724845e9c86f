"""Write docs/settings.md from the typed settings."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.runtime import run_stage
from projected_grpo.reporting.settings_page import settings_page
from projected_grpo.settings.arm import load_settings

EXAMPLE = "python -m stages.settings_page"


def main(out: Annotated[Path, typer.Option(help="Markdown, written.")] = Path("docs/settings.md")) -> None:
    out.write_text(settings_page(load_settings()))


if __name__ == "__main__":
    run_stage(main)
