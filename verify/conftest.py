"""Workspaces that several gates share: the pipeline run once on tiny inputs for each direction."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from verify.workspace import commit, copy_project, dvc, edit

LONG = ("verify_pipeline", "verify_dvc", "verify_curricula", "verify_campaign")  # minutes each; the others are seconds

# The gates' tensors are tiny, other processes share the cores, and the same bytes hold for one number of threads.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the stages that the gates start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that the processes, which take a file at a time, end at about the same time."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> dict[str, Path]:
    """Direction -> a workspace in which `dvc repro` has run with it; the second starts from the first's results."""
    folder = tmp_path_factory.mktemp("finished")
    first = copy_project(folder / "v_act")
    dvc(first, "repro")
    commit(first)
    second = folder / "haar"
    shutil.copytree(first, second, symlinks=True)
    edit(second / "params.yaml", "direction: v_act", "direction: haar")
    dvc(second, "repro")
    commit(second)
    return {"v_act": first, "haar": second}
