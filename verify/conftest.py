"""Workspaces that several gates share: the pipeline run once on tiny inputs for each direction."""

import shutil
from pathlib import Path

import pytest
import torch

from verify.workspace import commit, copy_project, dvc, edit

SHARED = ("finished", "seen", "command", "folder")  # fixtures that are made once for many gates

torch.set_num_threads(1)  # the gates' tensors are tiny, and other processes share the cores


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gates that share a costly fixture run in the process that makes it; the others in whichever is free."""
    for item in items:
        for name in set(SHARED) & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(name))


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
