"""A whole curriculum through the pipeline, killed in training and while it heals, and a run that diverges."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from projected_grpo.core.parquet import read_rows
from projected_grpo.grpo.checkpoint import TABLES
from projected_grpo.policy.policy import ADAPTER_FILE
from projected_grpo.settings.arm import load_settings
from verify.verify_dvc import HEAL, POOL, WITH_HEAL, WITH_POOL
from verify.verify_pipeline import kill_when, tables, train
from verify.workspace import dvc, edit, gather_arm
from verify.workspace import run as run_command


@pytest.fixture
def workspace(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished["v_act"], tmp_path / "workspace", symlinks=True))


def test_a_whole_curriculum_killed_in_training_and_while_it_heals_ends_with_the_same_bytes(workspace, tmp_path):
    """Demonstrations, a warm start and retain-heal in one arm, beside an uninterrupted run of it."""
    shutil.copytree(workspace / "artifacts/train/adapter", workspace / "starts/earlier")
    params = workspace / "params.yaml"
    edit(params, POOL, WITH_POOL)
    edit(params, HEAL, WITH_HEAL)
    edit(params, "warm_start: starts/zero", "warm_start: starts/earlier")
    gather_arm(workspace)
    done = run_command(train(tmp_path / "whole"), workspace)
    assert "retain-heal: " in done.stdout
    shutil.rmtree(workspace / ".scratch")  # so that the other run begins anew
    repro = [sys.executable, "-m", "dvc", "repro", "--single-item", "train_arm"]
    for checkpoint in ("step-000002", "step-000006"):
        kill_when(workspace, repro, f"*/{checkpoint}/state.pt")
        (workspace / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    dvc(workspace, "repro", "--single-item", "train_arm")
    out = workspace / "artifacts/train"
    assert json.loads((out / "run.json").read_text())["resumed_from_step"] == 6
    assert tables(out) == tables(tmp_path / "whole")
    adapters = [(folder / "adapter" / ADAPTER_FILE).read_bytes() for folder in (out, tmp_path / "whole")]
    assert adapters[0] == adapters[1]
    rollouts = read_rows(out / "rollouts.parquet", TABLES["rollouts"])
    assert {row["step"] for row in rollouts if row["source"] == "demonstration"} == {0, 1}
    dvc(workspace, "repro")
    page = (workspace / "reports/report.html").read_text()
    assert "curriculum.hack_demos" in page and "diverged:" not in page


def test_healing_reaches_both_blocks_where_rank_2r_deploys_as_one(workspace, tmp_path):
    edit(workspace / "params.yaml", "policy: route", "policy: none")
    edit(workspace / "profiles/smoke.yaml", "  steps: 6", "  steps: 1")
    run_command(train(tmp_path / "plain"), workspace)
    edit(workspace / "params.yaml", HEAL, WITH_HEAL)
    gather_arm(workspace)
    run_command(train(tmp_path / "healed"), workspace)
    plain, healed = (load_file(tmp_path / name / "adapter" / ADAPTER_FILE) for name in ("plain", "healed"))
    changed = {name: (tensor != healed[name]) for name, tensor in plain.items()}
    rank = load_settings(workspace).adapter.rank
    assert any(found[:rank].any() for name, found in changed.items() if name.endswith("dA"))
    assert any(found[rank:].any() for name, found in changed.items() if name.endswith("dA"))


def test_a_diverged_run_goes_through_the_pipeline_with_a_note(workspace):
    edit(workspace / "params.yaml", "kl_limit: 2.0", "kl_limit: 0.000001")
    edit(workspace / "profiles/smoke.yaml", "  steps: 6", "  steps: 16")
    shown = dvc(workspace, "repro").stdout
    assert "the median KL to the base of 10 steps is" in shown and "over 1e-06" in shown and "what it wrote is kept" in shown
    out = workspace / "artifacts/train"
    diverged = json.loads((out / "run.json").read_text())["diverged_at_step"]
    steps = [row["step"] for row in read_rows(out / "steps.parquet", TABLES["steps"])]
    assert 9 <= diverged < 15 and steps == list(range(diverged + 1))
    assert f"ended its training in step {diverged}, counted from 0" in (workspace / "reports/report.html").read_text()
    assert json.loads((workspace / "reports/manifest.json").read_text())["diverged_at_step"] == diverged
