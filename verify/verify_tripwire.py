"""The tripwire: when a run counts as diverged, what it keeps, and that it stays stopped."""

import pytest
import torch

from projected_grpo.grpo.checkpoint import TABLES, Checkpoints
from projected_grpo.grpo.tripwire import Tripwire
from projected_grpo.parquet import read_rows
from verify.curriculum import DEMOS, GROUP, trainer
from verify.tiny import tiny_policy


def watched(limit: float, estimates: list[float | None]) -> int | None:
    wire = Tripwire(limit)
    for step, kl in enumerate(estimates):
        if wire.diverged_at_step is None:
            wire.watch(step, kl)
    return wire.diverged_at_step


def test_two_estimates_in_a_row_over_the_limit_are_a_divergence():
    assert watched(5.0, [6.0, 5.0, 6.0, 4.0, 5.1, 5.2, 9.0]) == 5
    assert watched(5.0, [6.0, None, 6.0]) == 2
    assert watched(5.0, [5.0] * 9) is None and watched(5.0, [6.0, None, None]) is None


def test_a_run_over_the_limit_stops_keeps_its_rows_and_stays_stopped_when_it_resumes(tmp_path):
    def run_of(policy):
        return trainer(policy, DEMOS | {"until_step": 9, "kl_limit": 1e-6}, train={"steps": 9})

    checkpoints, policy, reported = Checkpoints(tmp_path / "run"), tiny_policy(moved=True, temperature=3.0), []
    run = run_of(policy)
    assert run.run(checkpoints, reported.append) is None
    assert run.tripwire.diverged_at_step == 1 and "over 1e-06 nats a token for 2 steps" in run.tripwire.reason
    assert [row["step"] for row in reported] == [0, 1] and all(row["kl"] > 1e-6 for row in reported)
    again = run_of(tiny_policy(moved=False, temperature=3.0))
    assert again.run(checkpoints, reported.append) == 2 and len(reported) == 2
    assert again.tripwire == run.tripwire
    assert all(torch.equal(tensor, again.policy.state()[name]) for name, tensor in policy.state().items())
    checkpoints.collect({name: tmp_path / f"{name}.parquet" for name in TABLES}, 2)
    assert len(read_rows(tmp_path / "rollouts.parquet", TABLES["rollouts"])) == 2 * 3 * GROUP


def test_an_estimate_over_the_limit_before_a_kill_counts_after_it(tmp_path):
    def run_of():
        run = trainer(tiny_policy(moved=True, temperature=3.0), DEMOS | {"until_step": 9}, train={"steps": 9, "checkpoint_every": 1})
        run.tripwire.limit = 1e-6
        return run

    class Killed(Exception):
        pass

    def kill_after_the_first(row):
        if row["step"] == 1:
            raise Killed

    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(Killed):
        run_of().run(checkpoints, kill_after_the_first)
    resumed = run_of()
    assert resumed.run(checkpoints, lambda row: None) == 1
    assert resumed.tripwire.diverged_at_step == 1


@pytest.mark.parametrize("broken", ["weights", "loss"])
def test_a_number_that_is_not_finite_stops_the_run_before_it_reaches_the_weights(tmp_path, broken):
    policy, reported = tiny_policy(moved=True, temperature=3.0), []
    run = trainer(policy, DEMOS | {"until_step": 9})
    if broken == "weights":
        layer = next(iter(policy.layers.values()))
        with torch.no_grad():
            layer.dA[0, 0] = float("inf")
    else:
        run.settings = run.settings.model_copy(update={"scale": huge_penalty(run.settings.scale)})
    before = {name: tensor.clone() for name, tensor in policy.state().items()}
    checkpoints = Checkpoints(tmp_path / "run")
    run.run(checkpoints, reported.append)
    assert run.tripwire.diverged_at_step == 0 and "finite" in run.tripwire.reason
    assert len(reported) == 1 and reported[0]["qmass"] is reported[0]["kl"] is None and reported[0]["gated"] > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state().items())
    checkpoints.collect({name: tmp_path / f"{name}.parquet" for name in TABLES}, 1)
    assert len(read_rows(tmp_path / "rollouts.parquet", TABLES["rollouts"])) == 3 * GROUP


def huge_penalty(scale):
    return scale.model_copy(update={"train": scale.train.model_copy(update={"kl_beta": float("inf")})})
