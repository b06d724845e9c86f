"""Run a campaign: each seed's evaluation of the base model, then all cells, several at once here or on a Ray cluster, and then
its verdict and report.

A cell is finished when DVC has its outputs; finished cells are skipped, a killed one resumes from its last checkpoint,
and a cell that fails does not stop the others. The plan must be committed before the first run. A campaign without a plan has no
verdict: its cells are put into a table and printed.
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

from projected_grpo.core.machine import available_memory
from projected_grpo.core.runtime import run_stage
from projected_grpo.settings.campaign import Campaign, CampaignError, load_campaign
from stages import show_cells
from stages.pipeline import collect_cells
from stages.ray_cells import connect, run_cells

BASE = "evaluate_base"  # of a seed
STAGES = ("train", "label", "evaluate", "diagnose")  # of a cell, in their order
DVC = [sys.executable, "-m", "dvc", "--wait-for-lock"]
EXAMPLE = "python -m stages.campaign campaigns/toy2 --seed 101 --workers 2"


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the campaign: dvc.yaml, params.yaml, and plan.md where it has a verdict.")],
    seed: Annotated[list[str], typer.Option(help="Only the cells of this seed, and no verdict; repeat the option.")] = [],
    workers: Annotated[int | None, typer.Option(help="Cells at once; without it as many as cores and memory allow.", min=1)] = None,
    ray: Annotated[str | None, typer.Option(help="In place of --workers: address of a Ray cluster that runs the cells.")] = None,
    remote: Annotated[str | None, typer.Option(help="With --ray: DVC remote that the cluster's nodes reach.")] = None,
) -> None:
    campaign = load_campaign(folder / "params.yaml")
    plan = folder / "plan.md"
    if plan.exists():
        require_committed(plan)
    pipeline = folder / "dvc.yaml"
    if unknown := sorted(set(seed) - set(campaign.seeds)):
        raise CampaignError(f"--seed {unknown[0]}: the campaign has {', '.join(campaign.seeds)}")
    if bool(ray) != bool(remote) or (ray and workers):
        raise CampaignError("give --ray and --remote together, and --workers without them: the nodes decide how many cells fit")
    if ray:
        connect(ray, remote)
    shared = [*shared_stages(pipeline), *(f"{pipeline}:arm@{arm}" for arm in campaign.arm)]
    reproduce(*shared)
    bases = {one: [f"{pipeline}:{BASE}@{one}"] for one in seed or campaign.seeds}
    for what, stages in (("seeds of the base model", bases), ("cells", cells_of(pipeline, campaign, seed))):
        todo = unfinished(pipeline, stages)
        print(f"{len(stages) - len(todo)} {what} are finished, {len(todo)} to run", flush=True)
        if ray:
            failed = run_cells(pipeline, campaign, remote, shared, todo)
        else:
            failed = run_here(todo, workers or fitting(campaign))
        if failed:
            raise CampaignError(f"{len(failed)} {what} failed: {', '.join(failed)}; mend the cause and start again")
        shared += [stage for of_one in stages.values() for stage in of_one]
    if changed := unfinished(pipeline, stages):
        raise CampaignError(f"{', '.join(changed)}: their code or settings changed while they ran; set them back or start again")
    if not seed and plan.exists():
        reproduce(str(pipeline))
    elif not seed:
        collect_cells.main(folder / "params.yaml", folder / "cells", folder / "arms", folder / "cells.parquet", folder / "outcomes.parquet")
        show_cells.main([folder])


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
    """Cells that fit at once: one for each `cpus` cores and each `memory_gb` of memory that may still be taken."""
    return max(1, min(len(os.sched_getaffinity(0)) // campaign.cpus, available_memory() // 2**30 // campaign.memory_gb))


def shared_stages(pipeline: Path) -> list[str]:
    """Stages of the project, outside of the campaign, whose outputs its cells read."""
    with Repo() as repo:
        graph = repo.index.graph  # an edge leads from a stage to one that it depends on
        ours = {stage for stage in graph if Path(stage.path) == pipeline.resolve()}
        return sorted({stage.addressing for one in ours for stage in nx.descendants(graph, one) - ours})


def cells_of(pipeline: Path, campaign: Campaign, seeds: list[str]) -> dict[str, list[str]]:
    """Name -> stages of every cell, or of those with these seeds."""
    chosen = [name for name, cell in campaign.cells.items() if not seeds or cell.seed in seeds]
    return {name: [f"{pipeline}:{stage}@{name}" for stage in STAGES] for name in chosen}


def unfinished(pipeline: Path, stages: dict[str, list[str]]) -> dict[str, list[str]]:
    """Those of which DVC would run a stage."""
    status = subprocess.run([*DVC, "status", "--json", str(pipeline)], check=True, text=True, stdout=subprocess.PIPE)
    stale = {name.rpartition(":")[2] for name in json.loads(status.stdout)}
    return {name: own for name, own in stages.items() if stale & {stage.rpartition(":")[2] for stage in own}}


def run_here(todo: dict[str, list[str]], workers: int) -> list[str]:
    """Names of those that failed; `workers` at once share the cores of this machine."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    print(f"{workers} at once with {threads} threads each", flush=True)
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda name: run_cell(name, todo[name], threads), todo)
        return [name for name, fine in zip(todo, done) if not fine]


def run_cell(name: str, stages: list[str], threads: str) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        [*DVC, "repro", "--single-item", *stages],
        env=os.environ | {"OMP_NUM_THREADS": threads}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    print(f"{name}: {'failed' if done.returncode else 'finished'} after {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout[-3000:], flush=True)
    return not done.returncode


if __name__ == "__main__":
    run_stage(main)
