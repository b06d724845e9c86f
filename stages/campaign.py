"""Run a campaign: all its cells, several at once here or on a Ray cluster, and then its verdict and report.

A cell is finished when DVC has its outputs; finished cells are skipped, a killed one resumes from its last checkpoint,
and a cell that fails does not stop the others. The plan must be committed before the first run.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import networkx as nx
import typer
from dvc.repo import Repo

from projected_grpo.campaign import Campaign, CampaignError, load_campaign
from projected_grpo.runtime import run_stage
from stages.ray_cells import connect, run_cells

STAGES = ("train", "label", "evaluate", "diagnose")  # of a cell, in their order
DVC = [sys.executable, "-m", "dvc", "--wait-for-lock"]


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the campaign: dvc.yaml, params.yaml, plan.md.")],
    workers: Annotated[int | None, typer.Option(help="Cells at once; without it as many as cores and memory allow.", min=1)] = None,
    ray: Annotated[str | None, typer.Option(help="In place of --workers: address of a Ray cluster that runs the cells.")] = None,
    remote: Annotated[str | None, typer.Option(help="With --ray: DVC remote that the cluster's nodes reach.")] = None,
) -> None:
    campaign = load_campaign(folder / "params.yaml")
    require_committed(folder / "plan.md")
    pipeline = folder / "dvc.yaml"
    if bool(ray) != bool(remote) or (ray and workers):
        raise CampaignError("give --ray and --remote together, and --workers without them: the nodes decide how many cells fit")
    if ray:
        connect(ray, remote)
    shared = [*shared_stages(pipeline), *(f"{pipeline}:arm@{arm}" for arm in campaign.arm)]
    reproduce(*shared)
    todo = unfinished(pipeline, campaign)
    print(f"{len(campaign.cells) - len(todo)} cells are finished, {len(todo)} to run", flush=True)
    if ray:
        failed = run_cells(pipeline, campaign, remote, shared, {cell: targets(pipeline, cell) for cell in todo})
    else:
        failed = run_here(pipeline, todo, workers or fitting(campaign))
    if failed:
        raise CampaignError(f"{len(failed)} cells failed: {', '.join(failed)}; mend the cause and start again")
    if changed := unfinished(pipeline, campaign):
        raise CampaignError(f"{', '.join(changed)}: their code or settings changed while they ran; set them back or start again")
    reproduce(str(pipeline))


def reproduce(*targets: str) -> None:
    """Raises CampaignError where a stage fails. Its outputs, which DVC has removed by then, are put back from the cache."""
    if subprocess.run([*DVC, "repro", *targets]).returncode:
        subprocess.run([*DVC, "checkout", "--quiet"])
        raise CampaignError("a stage failed, and its message is above; mend the cause and start again")


def require_committed(plan: Path) -> None:
    """Raises CampaignError where the plan is not in git as it lies there."""
    known = subprocess.run(["git", "ls-files", "--error-unmatch", plan.name], cwd=plan.parent, capture_output=True)
    same = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", plan.name], cwd=plan.parent, capture_output=True)
    if known.returncode or same.returncode:
        raise CampaignError(f"{plan}: is not committed as it lies there; commit the plan before the runs")


def fitting(campaign: Campaign) -> int:
    """Cells that fit at once: one for each `cpus` cores and each `memory_gb` of memory that is free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30
    return max(1, min(len(os.sched_getaffinity(0)) // campaign.cpus, free // campaign.memory_gb))


def shared_stages(pipeline: Path) -> list[str]:
    """Stages of the project, outside of the campaign, whose outputs its cells read."""
    with Repo() as repo:
        graph = repo.index.graph  # an edge leads from a stage to one that it depends on
        ours = {stage for stage in graph if Path(stage.path) == pipeline.resolve()}
        return sorted({stage.addressing for one in ours for stage in nx.descendants(graph, one) - ours})


def unfinished(pipeline: Path, campaign: Campaign) -> list[str]:
    """Names of the cells of which DVC would run a stage."""
    status = subprocess.run([*DVC, "status", "--json", str(pipeline)], check=True, text=True, stdout=subprocess.PIPE)
    stale = {name.rpartition(":")[2] for name in json.loads(status.stdout)}
    names = [f"{seed}-{arm}" for arm, seed in campaign.cells]
    return [cell for cell in names if any(f"{stage}@{cell}" in stale for stage in STAGES)]


def targets(pipeline: Path, cell: str) -> list[str]:
    return [f"{pipeline}:{stage}@{cell}" for stage in STAGES]


def run_here(pipeline: Path, cells: list[str], workers: int) -> list[str]:
    """Names of the cells that failed; `workers` at once share the cores of this machine."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    print(f"{workers} cells at once with {threads} threads each", flush=True)
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda cell: run_cell(pipeline, cell, threads), cells)
        return [cell for cell, fine in zip(cells, done) if not fine]


def run_cell(pipeline: Path, cell: str, threads: str) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        [*DVC, "repro", "--single-item", *targets(pipeline, cell)],
        env=os.environ | {"OMP_NUM_THREADS": threads}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print(f"{cell}: {'failed' if done.returncode else 'finished'} after {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout[-3000:], flush=True)
    return not done.returncode


if __name__ == "__main__":
    run_stage(main)
