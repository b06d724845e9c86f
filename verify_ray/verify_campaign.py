"""On a cluster of two nodes, a campaign outlives a lost node, a killed worker and a failed cell, and gives the local bytes.

`make test-ray` runs this folder, which needs the extra `ray`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from projected_grpo.settings.campaign import CampaignError
from stages.campaign import shared_stages
from stages.ray_cells import connect
from verify.workspace import CAMPAIGN as FOLDER
from verify.workspace import commit, copy_project, dvc, edit, environment, run, set_cells

NODE = {"num_cpus": 1, "memory": 4 * 2**30, "object_store_memory": 100 * 2**20}  # room for one cell
TABLES = (
    "train/rollouts", "train/gate", "train/steps", "train/features", "labels", "eval", "eval_rollouts", "diagnostics", "zones",
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A committed campaign of two cells with a folder as its remote, in which what the cells share is made."""
    folder = tmp_path_factory.mktemp("ray")
    workspace = copy_project(folder / "prepared")
    set_cells(workspace, "41-v_act", "41-absorb")
    edit(workspace / "profiles/smoke.yaml", r"steps: 6", "steps: 30")
    dvc(workspace, "remote", "add", "shared", str(folder / "remote"))
    commit(workspace)
    with chdir(workspace):
        shared = shared_stages(FOLDER / "dvc.yaml")
    dvc(workspace, "repro", *shared)
    return workspace


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """A cluster of a head node and another one, with the folders in which each keeps its checkpoints."""
    variables = {name: environment(tmp_path_factory.mktemp(name)) for name in ("head", "other")}
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"env_vars": variables["head"]})
    other = cluster.add_node(**NODE, env_vars=variables["other"])
    scratch = {name: Path(values["PGRPO_SCRATCH"]) for name, values in variables.items()}
    yield cluster, other, scratch
    cluster.shutdown()


def processes(scratch: Path) -> dict[int, str]:
    """Process -> command line, of those of a node's cells."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"PGRPO_SCRATCH={scratch}".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it ended, or is another user's
            continue
    return {process: line for process, line in found.items() if "stages." in line or "dvc" in line}


def wait(what: str, holds) -> None:
    deadline = time.monotonic() + 900
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def start(cluster: Cluster, workspace: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "stages.campaign", str(FOLDER), "--ray", cluster.address, "--remote", "shared"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=workspace, env=environment(workspace), **streams)


def trains(scratch: Path) -> bool:
    return any(scratch.glob("*/step-*/state.pt"))


def test_two_cells_survive_a_lost_node_and_a_killed_worker_and_equal_the_local_campaign(prepared, nodes, tmp_path):
    cluster, other, scratch = nodes
    workspace, local = (Path(shutil.copytree(prepared, tmp_path / name, symlinks=True)) for name in ("cluster", "local"))
    driver = start(cluster, workspace)
    wait("the other node trains", lambda: trains(scratch["other"]))
    cluster.remove_node(other, allow_graceful=False)
    wait("the lost node's cell has ended", lambda: not processes(scratch["other"]))
    assert trains(scratch["other"]), "it ended in the middle of its training, with its node"
    wait("the head node trains", lambda: trains(scratch["head"]))
    cell = next(process for process, line in processes(scratch["head"]).items() if "stages.ray_cells" in line)
    os.kill(int(Path(f"/proc/{cell}/stat").read_text().split()[3]), signal.SIGKILL)  # the Ray worker, its parent
    printed, _ = driver.communicate(timeout=3000)
    assert driver.returncode == 0 and "0 cells are finished, 2 to run" in printed, printed
    assert not any(scratch["head"].iterdir()) and not processes(scratch["head"])

    run([sys.executable, "-m", "stages.campaign", str(FOLDER), "--workers", str(os.cpu_count())], local)
    resumed = []
    for arm in ("v_act", "absorb"):
        there, here = (folder / FOLDER / "cells" / arm / "41" for folder in (workspace, local))
        for name in TABLES:
            assert (there / f"{name}.parquet").read_bytes() == (here / f"{name}.parquet").read_bytes(), (arm, name)
        resumed.append(json.loads((there / "train/run.json").read_text())["resumed_from_step"])
    assert resumed.count(None) == 1, "the killed worker's cell went on from its checkpoint; the lost node's began anew"
    for name in ("cells.parquet", "outcomes.parquet", "reports/verdict.json"):
        assert (workspace / FOLDER / name).read_bytes() == (local / FOLDER / name).read_bytes(), name
    assert "Data and pipelines are up to date" in dvc(workspace, "status", str(FOLDER / "dvc.yaml")).stdout
    changed = run(["git", "status", "--porcelain"], workspace).stdout.splitlines()
    assert {line[3:] for line in changed} <= {"dvc.lock", str(FOLDER / "dvc.lock")}


def test_a_cell_that_fails_stops_no_other(prepared, nodes, tmp_path):
    """The placebo has 128 draws, so training with seed and draw 128 is refused on the worker."""
    workspace = Path(shutil.copytree(prepared, tmp_path / "workspace", symlinks=True))
    set_cells(workspace, "128-v_act", "128-haar")
    commit(workspace)
    driver = start(nodes[0], workspace)
    printed, _ = driver.communicate(timeout=3000)
    assert driver.returncode == 1 and "1 cells failed: 128-haar" in printed and "the draw is 128" in printed, printed
    assert "Traceback" not in printed
    stale = json.loads(dvc(workspace, "status", "--json", str(FOLDER / "dvc.yaml")).stdout)
    cells = {name.rpartition(":")[2] for name in stale if "128-" in name}
    assert cells == {f"{stage}@128-haar" for stage in ("train", "label", "evaluate", "diagnose")}
    assert (workspace / FOLDER / "cells/v_act/128/diagnostics.parquet").exists()


def test_an_address_without_a_cluster_is_refused_at_once(prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    for address in ("127.0.0.1:1", "127.0.0.1", "nowhere.invalid:6379"):
        with pytest.raises(CampaignError, match=f"--ray {address}: found no cluster"):
            connect(address, "shared")
