"""The tripwire: when a run counts as diverged, what it keeps, and that it stays stopped."""

import pytest
import torch

from projected_grpo.core.parquet import read_rows
from projected_grpo.grpo.checkpoint import TABLES, Checkpoints
from projected_grpo.grpo.tripwire import Tripwire
from verify.curriculum import DEMOS, GROUP, trainer
from verify.tiny import tiny_policy


def watched(limit: float, kls: list[float | None]) -> int | None:
    wire = Tripwire(limit)
    for step, kl in enumerate(kls):
        if wire.diverged_at_step is None:
            wire.watch(step, kl)
    return wire.diverged_at_step


def test_a_median_of_ten_steps_over_the_limit_is_a_divergence():
    assert watched(5.0, [6.0] * 9) is None and watched(5.0, [6.0] * 10) == 9
    assert watched(5.0, [6.0, None] * 10) == 18  # a step without a KL does not count
    assert watched(5.0, [5.0] * 30) is None
    assert watched(5.0, [1e9] * 4 + [1.0] * 20) is None  # fewer than half of them, however high
    assert watched(5.0, [1.0] * 20 + [6.0] * 9) == 25  # six of the last ten


def test_a_run_over_the_limit_stops_keeps_its_rows_and_stays_stopped_when_it_resumes(tmp_path):
    def run_of(policy):
        return trainer(policy, DEMOS | {"until_step": 19, "kl_limit": 1e-6}, train={"steps": 19})

    checkpoints, policy, reported = Checkpoints(tmp_path / "run"), tiny_policy(moved=True, temperature=3.0), []
    run = run_of(policy)
    assert run.run(checkpoints, lambda rows: reported.extend(rows["steps"])) is None
    last = run.tripwire.diverged_at_step
    assert sum(row["kl"] is not None for row in reported) == 10 and reported[-1]["step"] == last < 15
    assert run.tripwire.reason.startswith("the median KL to the base of 10 steps is ") and run.tripwire.reason.endswith("over 1e-06")
    again = run_of(tiny_policy(moved=False, temperature=3.0))
    assert again.run(checkpoints, lambda rows: reported.extend(rows["steps"])) == last + 1 and len(reported) == last + 1
    assert again.tripwire == run.tripwire
    assert all(torch.equal(tensor, again.policy.state()[name]) for name, tensor in policy.state().items())
    checkpoints.collect({name: tmp_path / f"{name}.parquet" for name in TABLES}, last + 1)
    assert len(read_rows(tmp_path / "rollouts.parquet", TABLES["rollouts"])) == (last + 1) * 3 * GROUP


def test_a_kl_over_the_limit_before_a_kill_counts_after_it(tmp_path):
    def run_of():
        run = trainer(tiny_policy(moved=True, temperature=3.0), DEMOS | {"until_step": 19}, train={"steps": 19, "checkpoint_every": 1})
        run.tripwire.limit = 1e-6
        return run

    class Killed(Exception):
        pass

    def kill_after_three(rows):
        if rows["steps"][0]["step"] == 3:
            raise Killed

    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(Killed):
        run_of().run(checkpoints, kill_after_three)
    resumed = run_of()
    assert resumed.run(checkpoints, lambda row: None) == 3
    whole = run_of()
    whole.run(None, lambda row: None)
    assert resumed.tripwire == whole.tripwire and whole.tripwire.diverged_at_step is not None


@pytest.mark.parametrize("broken", ["weights", "loss"])
def test_a_number_that_is_not_finite_stops_the_run_before_it_reaches_the_weights(tmp_path, broken):
    policy, reported = tiny_policy(moved=True, temperature=3.0), []
    run = trainer(policy, DEMOS | {"until_step": 9})
    if broken == "weights":
        layer = next(iter(policy.layers.values()))
        with torch.no_grad():
            layer.dA[0, 0] = float("inf")
    else:
        run.settings = run.settings.model_copy(update={"profile": huge_penalty(run.settings.profile)})
    before = {name: tensor.clone() for name, tensor in policy.state().items()}
    checkpoints = Checkpoints(tmp_path / "run")
    run.run(checkpoints, lambda rows: reported.extend(rows["steps"]))
    assert run.tripwire.diverged_at_step == 0 and "finite" in run.tripwire.reason
    assert len(reported) == 1 and reported[0]["qmass"] is reported[0]["kl"] is None and reported[0]["gated"] > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state().items())
    checkpoints.collect({name: tmp_path / f"{name}.parquet" for name in TABLES}, 1)
    assert len(read_rows(tmp_path / "rollouts.parquet", TABLES["rollouts"])) == 3 * GROUP


def huge_penalty(profile):
    return profile.model_copy(update={"train": profile.train.model_copy(update={"kl_beta": float("inf")})})
