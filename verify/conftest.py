"""Workspaces that several gates share: the pipeline run once on tiny inputs for each direction."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from verify.workspace import commit, copy_project, dvc, edit

# In this order before all others: the first file makes the shared workspaces while another process runs files that need none.
FIRST = (
    "verify_pipeline", "verify_environment_containment", "verify_environment", "verify_attacks", "verify_curricula", "verify_dvc",
    "verify_demonstrations", "verify_campaign", "verify_ranks", "verify_reanalyse",
)  # fmt: skip

# The gates' tensors are tiny, other processes share the cores, and the same bytes hold for one number of threads.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the stages that the gates start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files early, so that the processes, which take a file at a time, end at about the same time."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> dict[str, Path]:
    """Direction -> a workspace in which `dvc repro` has run with it, made once and copied for each process of the run."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "workspaces"
    with FileLock(shared.with_suffix(".lock")):
        if not shared.exists():
            run_pipelines(shared.with_suffix(".partial"))
            shared.with_suffix(".partial").rename(shared)
    return {path.name: Path(shutil.copytree(path, own / "finished" / path.name, symlinks=True)) for path in shared.iterdir()}


def run_pipelines(folder: Path) -> None:
    """The arm v_act, then the arm haar from its results."""
    first, second = folder / "v_act", folder / "haar"
    dvc(copy_project(first), "repro")
    commit(first)
    shutil.copytree(first, second, symlinks=True)
    edit(second / "params.yaml", "direction: v_act", "direction: haar")
    dvc(second, "repro")
    commit(second)
