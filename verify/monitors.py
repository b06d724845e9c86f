"""Rollouts, readings and processes that the gates of monitors share."""

import sys
from pathlib import Path

import pytest
import torch

from projected_grpo.core.parquet import write_table
from projected_grpo.core.tables import GROUND_TRUTH, PROBLEMS
from projected_grpo.environment.protocol import Paid
from projected_grpo.grpo.rollouts import Rollouts
from projected_grpo.sampling.protocol import Completion
from verify.tiny import tiny_policy
from verify.verify_environment import PROBLEM, TRUTH


def rollouts(rewards: list[float], programs: list[str] | None = None, shown: str = "run_tests") -> Rollouts:
    """Rollouts for one problem, before any monitor; their advantages are marked so that a gate sees them replaced."""
    count = len(rewards)
    programs = programs or [f"p{i}" for i in range(count)]
    return Rollouts(
        [PROBLEM] * count, [shown] * count, [[1]] * count, [Completion([5, 2], [-1.0, -1.0])] * count,
        torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool), programs, programs, [Paid(False, amount=0.0)] * count, torch.tensor(rewards), torch.full((count,), 9.0),
        torch.ones(count, dtype=torch.bool),
    )  # fmt: skip


def flags(flagged: list[int]) -> torch.Tensor:
    return torch.tensor(flagged, dtype=torch.bool)


def clusters(count: int, seed: int, apart: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Readings (count, 6) of hack and clean sides that share their pair's offset and lie `apart`."""
    rng = torch.Generator().manual_seed(seed)
    odd = torch.tensor([0.0, 1.0] * 3)
    offset = 3.0 * torch.randn(count, 6, generator=rng) * (1.0 - odd)
    hack, clean = (torch.randn(count, 6, generator=rng) + offset for _ in range(2))
    return hack + apart * odd, clean


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder / "problems.parquet", PROBLEMS, [PROBLEM])
    write_table(folder / "ground_truth.parquet", GROUND_TRUTH, [TRUTH])
    tables = ["--problems", str(folder / "problems.parquet"), "--ground-truth", str(folder / "ground_truth.parquet")]
    return [sys.executable, "-m", "stages.pipeline.ground_truth_monitor", *tables]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tiny model, untouched by an adapter, as a transformers folder."""
    path = tmp_path_factory.mktemp("judge")
    policy = tiny_policy(moved=False)
    for name, layer in policy.layers.items():
        parent, attribute = name.rsplit(".", 1)
        setattr(policy.base.model.get_submodule(parent), attribute, layer.base)
    policy.base.model.save_pretrained(path)
    policy.base.tokenizer.save_pretrained(path)
    return path
