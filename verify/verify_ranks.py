"""Two processes train as one does: the same rollouts, zones and losses, and the same trained adapter."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.tables import GATE, ROLLOUTS, STEPS
from projected_grpo.grpo import ranks
from projected_grpo.grpo.ranks import RanksError
from projected_grpo.settings.arm import load_settings
from verify.workspace import dvc, edit

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


def test_two_ranks_reproduce_one(finished, tmp_path):
    """The arm v_act of the shared workspace was trained by one process; here two train it again through DVC."""
    alone, workspace = finished["v_act"], tmp_path / "ranks"
    shutil.copytree(alone, workspace, symlinks=True)
    edit(workspace / "params.yaml", r"launch: python +#", "launch: torchrun --nproc-per-node 2  #")
    dvc(workspace, "repro", "--single-item", "train_arm")
    assert json.loads((workspace / "artifacts/train/run.json").read_text())["ranks"] == 2

    def rows(name, table):
        return zip(*(read_rows(folder / f"artifacts/train/{name}.parquet", table) for folder in (alone, workspace)), strict=True)

    for one, two in rows("rollouts", ROLLOUTS):
        assert two["completion_tokens"] == one["completion_tokens"] and two["reward"] == one["reward"]
        assert two["sampler_logprob"] == pytest.approx(one["sampler_logprob"], rel=1e-5, abs=1e-5)
    for one, two in rows("gate", GATE):
        assert two["zone"] == one["zone"] and two["score"] == pytest.approx(one["score"], abs=1e-5)
    updated = 0
    for one, two in rows("steps", STEPS):
        for name, value in one.items():
            assert two[name] == (value if value is None else pytest.approx(value, rel=1e-5, abs=1e-5)), name
        updated += one["loss"] is not None
    assert updated >= 4
    adapters = [load_file(folder / "artifacts/train/adapter/adapter.safetensors") for folder in (alone, workspace)]
    for name, tensor in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], tensor, rtol=0, atol=1e-4)


SHARES = """
import sys
from dataclasses import dataclass
import torch
from projected_grpo.grpo import ranks
from projected_grpo.grpo.monitors import watch
@dataclass(frozen=True)
class Rollouts:  # what watch needs of them
    seen: object = None
ranks.join()
own = list(range(5))[ranks.share(5)]
parameter = torch.nn.Parameter(torch.zeros(2))
parameter.grad = torch.tensor([1.0, 10.0 * (ranks.rank() + 1)])
ranks.sum_gradients([parameter])
rows = ranks.gather_rows(torch.full((1, ranks.rank() + 1), 1.0 + ranks.rank()))
result = (len(own), ranks.gather(own), parameter.grad.tolist(), rows.tolist(), ranks.from_first(f"of rank {ranks.rank()}"))
seen = watch(lambda rollouts, readings: f"of rank {ranks.rank()}", "none", Rollouts(), torch.zeros(2, 1), 2, 3.0).seen
if ranks.rank() == 1:
    print(result, seen)
ranks.leave()
"""


def test_shares_are_joined_in_order_gradients_summed_and_the_first_rank_s_monitor_asked(tmp_path):
    """An endpoint may answer the same question in two ways, so one rank asks it."""
    (tmp_path / "shares.py").write_text(SHARES)
    plain = {name: value for name, value in os.environ.items() if name != "PGRPO_TYPECHECK"}  # for Rollouts
    plain |= {"PYTHONPATH": os.getcwd()}
    found = subprocess.run([*TORCHRUN, str(tmp_path / "shares.py")], text=True, capture_output=True, check=True, env=plain).stdout
    assert found.strip() == "(3, [0, 1, 2, 3, 4], [2.0, 30.0], [[1.0, 0.0], [2.0, 2.0]], 'of rank 0') of rank 0"
    assert list(range(5))[ranks.share(5)] == list(range(5)) and ranks.gather([3, 4]) == [3, 4]  # one rank


def test_more_ranks_than_prompts_are_refused(monkeypatch):
    train = load_settings().profile.train
    monkeypatch.setattr(ranks, "count", lambda: train.group + 1)
    with pytest.raises(RanksError, match=f"found {train.group + 1} ranks, expected at most {train.group}"):
        ranks.check(train, screening=False)
    monkeypatch.setattr(ranks, "count", lambda: 3)
    ranks.check(train, screening=False)
    with pytest.raises(RanksError, match="found 3 ranks, expected at most 2 under monitor.use=screening"):
        ranks.check(train, screening=True)
