"""The smoke profile's training with vLLM as the sampling engine: rollouts of both states from each step's own weights."""

import math
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.tables import ROLLOUTS, STEPS
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
        if row["source"] == "demonstration":
            assert row["sampler_logprob"] is None
            continue
        assert len(row["sampler_logprob"]) == len(row["completion_tokens"]) > 0
        assert max(row["sampler_logprob"]) <= 0


HOLD = """
import sys, time
from pathlib import Path
from verify_vllm.served import moved_policy, vllm_engine, write_base
base = Path(sys.argv[1])
write_base(base)
engine = vllm_engine(moved_policy(base), base, tensor_parallel=1)
print("loaded", flush=True)
time.sleep(3600)
"""


def test_a_killed_training_leaves_no_engine_behind(tmp_path):
    """An engine that outlives its trainer would keep its share of the memory from the one that resumes."""
    trainer = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert any(line == "loaded\n" for line in trainer.stdout)
    workers = psutil.Process(trainer.pid).children(recursive=True)
    assert workers
    trainer.kill()
    trainer.wait()
    _, left = psutil.wait_procs(workers, timeout=600)  # seconds of CPU time alone; minutes where many processes share the cores
    for process in left:
        process.kill()
    assert not left
