"""Report a campaign: the verdict, the runs of all arms and seeds, the gate, and the rollouts to read, on one page."""

import re
from pathlib import Path
from typing import Annotated

import typer

from projected_grpo.analysis.results import CELLS, NULL_HISTOGRAMS, OFFLINE_GATE, OUTCOMES
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import PAIR_AUDIT, PROBLEMS
from projected_grpo.reporting.campaign.answers import read_verdict
from projected_grpo.reporting.campaign.page import Contents, render
from projected_grpo.reporting.campaign.runs import frame, read_runs
from projected_grpo.settings.files import check, profile_path, read_profile
from projected_grpo.settings.profile import Profile

EXAMPLE = "dvc repro campaigns/toy2/dvc.yaml:report"


def main(
    name: Annotated[str, typer.Option(help="Name of the campaign.")],
    profile: Annotated[str, typer.Option(help="Profile of its cells.")],
    runs: Annotated[Path, typer.Option(help="Folder of the finished runs, <arm>/<seed>/.")],
    cells: Annotated[Path, typer.Option(help="Table cells; its runs are reported.")],
    outcomes: Annotated[Path, typer.Option(help="Table outcomes.")],
    verdict: Annotated[Path, typer.Option(help="The verdict, JSON.")],
    plan: Annotated[Path, typer.Option(help="Plan of the campaign.")],
    offline_gate: Annotated[Path, typer.Option(help="Table offline_gate.")],
    null_histograms: Annotated[Path, typer.Option(help="Table null_histograms.")],
    pair_audit: Annotated[Path, typer.Option(help="Table pair_audit.")],
    problems: Annotated[Path, typer.Option(help="Table problems.")],
    html: Annotated[Path, typer.Option(help="The report, written as one page.")],
    figures: Annotated[Path, typer.Option(help="Folder of the page's panels, <figure>-<panel>.svg, written.")],
    browser_rollouts: Annotated[int, typer.Option(help="At most so many rollouts are in the page.", min=1)] = 50_000,
) -> None:
    cell_table = frame(cells, CELLS)
    judged, planned = read_verdict(verdict, plan)
    path = profile_path(Path(), profile, "option --profile")
    page = render(
        Contents(
            name=name,
            kind=check(Profile, read_profile(path), path).problems.kind,
            plan=planned,
            verdict=judged,
            cells=cell_table,
            outcomes=frame(outcomes, OUTCOMES),
            runs=read_runs(runs, cell_table, browser_rollouts),
            gate_test=frame(offline_gate, OFFLINE_GATE),
            null_histograms=frame(null_histograms, NULL_HISTOGRAMS),
            pair_audit=frame(pair_audit, PAIR_AUDIT),
            problems=frame(problems, PROBLEMS),
        )
    )
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_text(page)
    write_panels(page, figures)
    print(f"{cell_table.height} runs, {len(page.encode()) / 1e6:.1f} MB -> {html}")


def write_panels(page: str, folder: Path) -> None:
    """The same SVG elements as in the page, which is where a panel gets its place."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, figure in enumerate(re.findall("<figure>(.*?)</figure>", page, re.DOTALL), start=1):
        for place, panel in enumerate(re.findall("<svg.*?</svg>", figure, re.DOTALL), start=1):
            (folder / f"{index}-{place}.svg").write_text(panel)


if __name__ == "__main__":
    run_stage(main)
