"""Cells of a campaign as tasks on a Ray cluster, their inputs and outputs in a DVC remote; no common file system is needed.

The driver sends each task the commit and DVC's lock files. On a worker, the task unpacks them and starts this module as a
command, which runs the cell's stages and pushes each once it is finished. The cell's entries of the campaign's lock file
come back; the driver enters them into its own and pulls the outputs, so DVC finds a cell that it ran itself.
"""

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from dvc.repo import Repo
from dvc.utils.serialize import modify_yaml
from ruamel.yaml import YAML

from projected_grpo.core.runtime import run_stage
from projected_grpo.settings.campaign import Campaign, CampaignError

RETRIES = 3  # of a task whose worker or node is lost
ENTRIES = "entries.json"  # in the folder of a cell on a worker: lock entries of its finished stages
SECONDS = 10  # in which the cluster's address must answer


def connect(address: str, remote: str) -> None:
    """Join the cluster. Raises CampaignError: no such remote, files not committed, no Ray here, no cluster there."""
    with Repo() as repo:
        known = repo.config.load_config_to_level("local").get("remote", {})  # without config.local, which stays here
    if remote not in known:
        raise CampaignError(
            f".dvc/config: found --remote {remote}, expected one of the remotes there ({', '.join(known) or 'none yet'}); "
            "add it with `dvc remote add NAME URL` and commit the file"
        )
    status = subprocess.run(["git", "status", "--porcelain", "-uall"], check=True, text=True, stdout=subprocess.PIPE).stdout
    if changed := [line[3:] for line in status.splitlines() if not line.endswith("dvc.lock")]:
        raise CampaignError(
            f"{', '.join(changed[:5])}: not committed ({len(changed)} in all); the cluster runs what is, so commit or remove them"
        )
    try:
        import ray
    except ImportError as error:
        raise CampaignError("ray: is not installed; `uv pip install -r pyproject.toml --extra ray` installs it") from error
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host:  # without a look at the port, ray would wait for minutes
            socket.create_connection((host, int(port)), SECONDS).close()
        ray.init(address)
    except (OSError, ValueError) as error:
        raise CampaignError(
            f"--ray {address}: found no cluster ({error}); give HOST:PORT of one that `ray start --head` began, or auto on its nodes"
        ) from error


def run_cells(pipeline: Path, campaign: Campaign, remote: str, inputs: list[str], cells: dict[str, list[str]]) -> list[str]:
    """Names of the cells that failed. inputs: stages whose outputs cells read. cells: name -> its stages, in their order."""
    import ray

    dvc("push", "--remote", remote, *inputs, str(pipeline))
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers have no copy of the project yet
    needs = {"num_cpus": campaign.cpus, "num_gpus": campaign.gpus, "memory": campaign.memory_gb * 2**30}
    task = ray.remote(**needs, max_retries=RETRIES)(run_cell)
    lock, project, failed = pipeline.with_suffix(".lock"), ray.put(packed(pipeline)), []
    options = ["--remote", remote, "--lock", str(lock), *(f"--input={stage}" for stage in inputs)]
    running = {task.remote(project, [*options, *stages], campaign.cpus): name for name, stages in cells.items()}
    while running:
        [ready], _ = ray.wait(list(running))
        name = running.pop(ready)
        try:
            entries, error = ray.get(ready)
        except ray.exceptions.RayError as lost:
            entries, error = {}, str(lost)
        adopt(lock, remote, entries)
        print(f"{name}: {'failed' if error else 'finished'}, {len(running)} under way or waiting", flush=True)
        if error:
            failed.append(name)
            print(error[-3000:], flush=True)
    return failed


def packed(pipeline: Path) -> bytes:
    """A tar archive of the commit, with the lock files as they lie there: they say which inputs to pull."""
    archive = io.BytesIO(subprocess.run(["git", "archive", "HEAD"], check=True, stdout=subprocess.PIPE).stdout)
    with tarfile.open(fileobj=archive, mode="a") as tar:
        for path in ("dvc.lock", pipeline.with_suffix(".lock")):
            tar.add(path)
    return archive.getvalue()


def adopt(lock: Path, remote: str, entries: dict) -> None:
    """Enter finished stages into the lock file, as a worker's DVC recorded them, and pull their outputs."""
    if entries:
        with Repo() as repo, repo.lock, modify_yaml(lock) as text:
            text["stages"] |= entries
        dvc("pull", "--force", "--remote", remote, *(f"{lock.with_suffix('.yaml')}:{name}" for name in entries))


def run_cell(project: bytes, arguments: list[str], threads: int) -> tuple[dict, str]:
    """On a worker, outside of the project: lock entries of the finished stages, and what was printed where one failed."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with TemporaryDirectory(prefix="pgrpo-cell-", ignore_cleanup_errors=True) as home:
        with tarfile.open(fileobj=io.BytesIO(project)) as tar:
            tar.extractall(home, filter="data")
        with subprocess.Popen(
            [sys.executable, "-m", "stages.ray_cells", *arguments], cwd=home, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        ) as process:  # fmt: skip
            printed, status, entries = process.stdout.read(), process.wait(), Path(home, ENTRIES)
            finished = json.loads(entries.read_text()) if entries.exists() else {}
    return finished, f"{printed}\nexit status {status}" if status else ""


def main(
    stages: Annotated[list[str], typer.Argument(help="Stages of the cell, in their order.")],
    inputs: Annotated[list[str], typer.Option("--input", help="Stage whose outputs the cell reads; repeat the option.")],
    lock: Annotated[Path, typer.Option(help="Lock file of the campaign.")],
    remote: Annotated[str, typer.Option(help="DVC remote of inputs and outputs.")],
) -> None:
    """On a worker, in the unpacked project. A stage that another worker finished comes from the remote's run cache."""
    end_with_the_worker()
    subprocess.run(["git", "init", "-q"], check=True)
    dvc("config", "--local", "core.remote", remote)
    dvc("pull", *inputs)
    entries = {}
    for stage in stages:
        dvc("repro", "--single-item", "--pull", stage)
        dvc("push", "--run-cache", stage)
        name = stage.rpartition(":")[2]
        entries[name] = YAML(typ="safe").load(lock)["stages"][name]
        Path(ENTRIES).write_text(json.dumps(entries))


def end_with_the_worker() -> None:
    """Start a process apart that ends the cell's processes, which hold its checkpoint, once the worker lets go of our input."""
    script = f"cat; kill -9 -{os.getpgrp()}; rm -rf '{Path.cwd()}'"
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(["sh", "-c", script], start_new_session=True, **silent)


def dvc(*arguments: str) -> None:
    if subprocess.run([sys.executable, "-m", "dvc", *arguments]).returncode:
        raise CampaignError(f"`dvc {' '.join(arguments)}` failed")


if __name__ == "__main__":
    run_stage(main)
