"""Fill the numbers of Markdown texts from a verdict, in place."""

from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.core.runtime import run_stage
from projected_grpo.reporting.campaign.answers import read_verdict
from projected_grpo.reporting.writeup import facts, fill

EXAMPLE = "python -m stages.writeup README.md --verdict campaigns/toy2/reports/verdict.json --plan campaigns/toy2/plan.md"


def main(
    texts: Annotated[list[Path], typer.Argument(help="Markdown files, written in place.")],
    verdict: Annotated[Path, typer.Option(help="The verdict, JSON.")],
    plan: Annotated[Path, typer.Option(help="Plan of the campaign.")],
) -> None:
    known = facts(*read_verdict(verdict, plan))
    for path in texts:
        path.write_text(fill(path.read_text(), known, str(path)))
        print(f"numbers of {verdict} -> {path}")


if __name__ == "__main__":
    run_stage(main)
