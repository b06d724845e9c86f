"""A whole step routes by what its settings name: the reading, the pairs' cuts, the permuted zones; and it saves what it read."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from projected_grpo.gate.pairs import read_side
from projected_grpo.gate.thresholds import pair_cuts
from projected_grpo.gate.zones import assign_zones
from projected_grpo.grpo.loop import Trainer
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import read_deployed
from projected_grpo.tables import ZONE_NAMES
from verify.curriculum import trainer
from verify.tiny import tiny_policy
from verify.verify_training_step import PAIRS


def start() -> Policy:
    """The policy before the step, the same each time."""
    return tiny_policy(moved=True, temperature=2.0)


def one_step(**gate) -> tuple[Trainer, dict[str, list[dict]]]:
    run = trainer(start(), {}, train={"prompts": 16}, gate=gate, max_new_tokens=3)
    if gate.get("cuts") == "pairs":
        run.cut_pairs = PAIRS
    rows = run.step(0)
    assert len(rows["gate"]) >= 8
    return run, rows


def reread(rows: list[dict], reading: str) -> Tensor:
    """What the policy before the step reads in each rollout, one at a time."""
    policy = start()
    single = [TokenBatch.collate([row["prompt_tokens"]], [row["completion_tokens"]]) for row in rows]
    return torch.cat([read_deployed(policy, batch, [reading])[0][reading] for batch in single])


@pytest.mark.parametrize("reading", ["bottleneck", "residual", "output", "gradient"])
def test_a_step_scores_by_the_gate_s_reading_and_saves_every_reading_that_is_asked_for(reading):
    other = "gradient" if reading == "bottleneck" else "bottleneck"
    named = {"score": "gradient"} if reading == "gradient" else {"site": reading}
    run, rows = one_step(**named, features=[other, reading])
    expected = {name: reread(rows["rollouts"], name) for name in (other, reading)}
    place = {row["rollout_id"]: i for i, row in enumerate(rows["rollouts"])}
    assert Counter(row["reading"] for row in rows["features"]) == {name: len(place) for name in expected}
    for row in rows["features"]:
        vector = expected[row["reading"]][place[row["rollout_id"]]]
        torch.testing.assert_close(torch.tensor(row["vector"]), vector, rtol=1e-3, atol=1e-5)
    for row in rows["gate"]:
        vector = expected[reading][place[row["rollout_id"]]]
        assert row["score"] == pytest.approx(float(vector @ run.gate.direction), rel=1e-3, abs=1e-5)


def test_yoked_zones_under_pair_cuts_are_those_of_the_scores_permuted_within_prompt_and_sign():
    run, rows = one_step(policy="yoked", cuts="pairs")
    hack, clean = (read_side(start(), side, ["bottleneck"], 64)["bottleneck"] for side in (PAIRS.hack, PAIRS.clean))
    low, high = pair_cuts(run.gate.score(hack), run.gate.score(clean))
    assert low < high and all((row["t_low"], row["t_high"]) == pytest.approx((low, high), abs=1e-5) for row in rows["gate"])
    own = [ZONE_NAMES[zone] for zone in assign_zones(torch.tensor([row["score"] for row in rows["gate"]]), low, high)]
    rollouts = {row["rollout_id"]: row for row in rows["rollouts"]}
    cells = [(rollouts[row["rollout_id"]]["problem_id"], rollouts[row["rollout_id"]]["advantage"] > 0) for row in rows["gate"]]
    given = [row["zone"] for row in rows["gate"]]
    assert Counter(zip(cells, own)) == Counter(zip(cells, given)) and own != given
