"""A dry run of every stage on the shape of Qwen3-4B: its profile, with a few small layers and short answers in place of its own."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.tables import EVAL, GATE, LABELS, ROLLOUTS, STEPS
from projected_grpo.prompts.modes import GT_ONLY
from verify.workspace import copy_project, dvc, edit

SMALL = {"vocab": 700, "width": 48, "layers": 3, "heads": 4, "kv_heads": 2, "head_dim": 16, "mlp": 80, "max_new_tokens": 160, "prompts": 2, "group": 4, "checkpoint_every": 3}


@pytest.fixture(scope="module")
def shaped(tmp_path_factory) -> Path:
    workspace = copy_project(tmp_path_factory.mktemp("shape") / "work", "qwen3_4b_shape")
    profile = workspace / "profiles/qwen3_4b_shape.yaml"
    for key, value in SMALL.items():
        edit(profile, rf"\n  {key}: \d+", f"\n  {key}: {value}")
    edit(profile, "device: cuda", "device: cpu")
    edit(profile, "dtype: bfloat16", "dtype: float32")  # bfloat16 is refused on a CPU
    edit(workspace / "params.yaml", r"rank: \d+", "rank: 16")
    dvc(workspace, "repro")
    return workspace


def test_every_stage_runs_on_the_shape_of_qwen3_4b(shaped):
    artifacts = shaped / "artifacts"
    rollouts, gate, steps = (read_rows(artifacts / f"train/{table.name}.parquet", table) for table in (ROLLOUTS, GATE, STEPS))
    assert [row["step"] for row in steps] == [0, 1, 2]
    assert len(rollouts) == 3 * 2 * 4
    hinted = {(row["step"], row["problem_id"]) for row in rollouts if row["shown_mode"] != GT_ONLY}
    demonstrations = [row for row in rollouts if row["source"] == "demonstration"]
    assert sorted((row["step"], row["problem_id"]) for row in demonstrations) == sorted(hinted) and len(hinted) >= 3
    assert all(row["reward"] > 0.0 for row in demonstrations)
    paid = {row["rollout_id"] for row in rollouts if (row["step"], row["problem_id"]) in hinted}
    assert {row["rollout_id"] for row in gate} == paid  # in the other groups the rewards agree
    assert all(0.0 < row["qmass"] < 1.0 and row["grad_norm_deployed"] > 0.0 for row in steps)
    labels = {row["rollout_id"]: row for row in read_rows(artifacts / "labels.parquet", LABELS)}
    assert all(labels[row["rollout_id"]]["exploited"] == (row["source"] == "demonstration") for row in rollouts)
    evaluated = read_rows(artifacts / "eval.parquet", EVAL)
    assert {row["state"] for row in evaluated} == {"base", "as_trained", "deployed"} and not any(row["exploited"] for row in evaluated)
    assert "SmolLM2" not in (shaped / "reports/report.html").read_text()


def test_the_exported_adapter_has_the_layers_of_the_shape(shaped):
    deployed = load_file(shaped / "artifacts/adapter/deployed/adapter_model.safetensors")
    assert len(deployed) == 2 * 7 * SMALL["layers"]  # A and B of q, k, v, o, gate, up and down; a net delta has twice the rank's columns
    down = deployed["base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"]
    assert down.shape == (32, SMALL["mlp"]) and any(float(tensor.abs().max()) > 0.0 for tensor in deployed.values())
