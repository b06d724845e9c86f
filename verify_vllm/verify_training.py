"""The smoke profile's training with vLLM as the sampling engine: rollouts of both states from each step's own weights."""

import math
from pathlib import Path

import pytest

from projected_grpo.parquet import read_rows
from projected_grpo.tables import ROLLOUTS, STEPS
from verify.workspace import copy_project, dvc, edit

ENGINE = "engine: vllm\n  tensor_parallel: 1\n  memory_share: 0.15\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    workspace = copy_project(tmp_path_factory.mktemp("trained"))
    edit(workspace / "profiles/smoke.yaml", r"engine: merged\n  rows: 1024\n", ENGINE)
    dvc(workspace, "repro", "train_arm")
    return workspace / "artifacts/train"


def test_every_step_s_rollouts_are_the_current_policy_s(trained):
    steps = read_rows(trained / "steps.parquet", STEPS)
    gaps = [row["sampler_gap"] for row in steps if row["sampler_gap"] is not None]
    print(f"largest |sampler - trainer| log-probability by step, nats: {', '.join(f'{gap:.1e}' for gap in gaps)}")
    assert len(steps) == 6 and len(gaps) >= 3 and max(gaps) < 1e-4
    assert math.sqrt(2 * steps[-1]["kl"]) > 3e-3  # the weights have moved by more than that, so old ones would be seen


def test_rollouts_of_both_states_have_a_log_probability_for_each_token(trained):
    rows = read_rows(trained / "rollouts.parquet", ROLLOUTS)
    assert [row["sampled_with"] for row in rows[:4]] == ["full", "full", "full", "deployed"]
    for row in rows:
        assert len(row["sampler_logprob"]) == len(row["completion_tokens"]) > 0
        assert max(row["sampler_logprob"]) <= 0
