"""Ratios and KL of the table of steps, by zone and by the state that sampled, against a brute-force computation."""

import pytest
import torch

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.tables import ZONE_NAMES
from projected_grpo.grpo.checkpoint import TABLES, Checkpoints
from projected_grpo.policy.adapter import ABLATED, FULL, adapter_state
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import read_deployed
from verify.curriculum import DEMOS, trainer
from verify.tiny import tiny_policy


def logp_of(policy: Policy, rows: list[dict], deployed: bool) -> list[torch.Tensor]:
    """Log-probabilities of each row's tokens, one row at a time."""
    found = []
    for row in rows:
        batch = TokenBatch.collate([row["prompt_tokens"]], [row["completion_tokens"]])
        with torch.no_grad():
            found.append((read_deployed(policy, batch, [])[1] if deployed else policy.logp(batch))[0])
    return found


def kl_of(policy: Policy, batch: TokenBatch, zone: str) -> torch.Tensor:
    """KL to the base at each completion token of one row, over the vocabulary, by its definition."""
    context, start = policy.context, int(batch.prompt_length) - 1
    with torch.no_grad(), adapter_state(context, state=ABLATED if zone == "keep" else FULL):
        p = (policy.base.model(batch.tokens).logits[0, start:-1] / policy.temperature).double().softmax(-1)
        with adapter_state(context, enabled=False):
            q = (policy.base.model(batch.tokens).logits[0, start:-1] / policy.temperature).double().softmax(-1)
    return (p * (p / q).log()).sum(-1)


def test_ratios_and_kl_of_the_table_of_steps_equal_a_brute_force_computation():
    """Every ratio is recomputed from the saved rollouts under the policy of before the step."""
    gate = {"policy": "route", "keep_quantile": 0.4, "route_quantile": 0.4, "half_life": 1e9}
    run = trainer(tiny_policy(moved=True, temperature=3.0), DEMOS, train={"prompts": 8}, gate=gate)
    rows = run.step(0)
    zones = {row["rollout_id"]: row["zone"] for row in rows["gate"]}
    gated = [row for row in rows["rollouts"] if row["rollout_id"] in zones]
    before = tiny_policy(moved=True, temperature=3.0)
    full, deployed = logp_of(before, gated, False), logp_of(before, gated, True)
    ratios, negative, kl = {name: [] for name in ZONE_NAMES}, {name: [] for name in ZONE_NAMES}, []
    for row, with_both, ablated in zip(gated, full, deployed, strict=True):
        zone = zones[row["rollout_id"]]
        new = ablated if zone == "keep" else with_both
        old = ablated if row["sampled_with"] == "deployed" else with_both
        rho = (new - old).exp()
        ratios[zone].append(rho)
        if row["advantage"] < 0:
            negative[zone].append(rho)
        if row["source"] == "policy":
            batch = TokenBatch.collate([row["prompt_tokens"]], [row["completion_tokens"]])
            kl.append(kl_of(before, batch, zone))
        elif zone != "keep":
            assert row["sampled_with"] == "full" and torch.equal(rho, torch.ones_like(rho))
    step = rows["steps"][0]
    for zone in ZONE_NAMES:
        every = torch.cat(ratios[zone])
        assert step[f"rho_{zone}"] == pytest.approx(float(every.mean()), rel=1e-3)
        assert step[f"rho_clipped_{zone}"] == pytest.approx(float(every.clamp(0.8, 1.2).mean()), rel=1e-3)
        largest = float(torch.cat(negative[zone]).max()) if negative[zone] else None
        assert step[f"rho_max_negative_{zone}"] == (largest and pytest.approx(largest, rel=1e-3))
    assert max(step[f"rho_max_negative_{zone}"] or 0.0 for zone in ZONE_NAMES) > 1.2  # past the clip, which does not bound it
    assert step["kl"] == pytest.approx(float(torch.cat(kl).mean()), rel=1e-3)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_group_that_is_sampled_in_one_state_alone_trains_with_a_gate(share, tmp_path):
    """Programs of at most three tokens compile now and then, so rewards within a group differ."""
    gate, train = {"policy": "route", "keep_quantile": 0.4, "route_quantile": 0.4, "half_life": 1e9}, {"gen_deploy_frac": share, "prompts": 8}
    run = trainer(tiny_policy(moved=True, temperature=3.0), {}, train=train, gate=gate, max_new_tokens=3)
    checkpoints, reported = Checkpoints(tmp_path / "run"), []
    run.run(checkpoints, lambda rows: reported.extend(rows["steps"]))
    checkpoints.collect({name: tmp_path / f"{name}.parquet" for name in TABLES}, 4)
    rollouts, gated, steps = (read_rows(tmp_path / f"{name}.parquet", TABLES[name]) for name in ("rollouts", "gate", "steps"))
    assert {row["sampled_with"] for row in rollouts} == {"full" if share == 0.0 else "deployed"}
    assert {row["zone"] for row in gated} == set(ZONE_NAMES) and steps == reported
    updated = [row for row in steps if row["qmass"] is not None]
    mixed = [row for row in updated if row["route_share"] < 1]
    assert mixed and all(0 < row["qmass"] < 1 for row in mixed)
    assert all(row["qmass"] == 1 for row in updated if row["route_share"] == 1)
    assert all(row["sampler_gap"] < 1e-3 for row in updated)
    if share == 0.0:
        assert all(row["rho_route"] in (None, 1.0) and row["rho_absorb"] in (None, 1.0) for row in steps)
        assert any(row["rho_keep"] not in (None, 1.0) for row in steps)
    else:
        assert all(row["rho_keep"] in (None, 1.0) for row in steps)
        assert any(row["rho_route"] not in (None, 1.0) for row in steps)
