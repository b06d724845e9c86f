"""A whole step routes by what its settings name: the reading, the pairs' cuts, the zones dealt anew; and it saves what it read."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from projected_grpo.core.tables import ZONE_NAMES
from projected_grpo.gate.pairs import read_side
from projected_grpo.gate.thresholds import pair_cuts
from projected_grpo.gate.zones import assign_zones
from projected_grpo.grpo.loop import Trainer
from projected_grpo.grpo.rollouts import Rollouts, Seen
from projected_grpo.policy.batch import TokenBatch
from projected_grpo.policy.policy import Policy
from projected_grpo.policy.readings import read_deployed
from projected_grpo.settings.arm import PERMUTED
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


def own_zones(run: Trainer, rows: list[dict]) -> list[str]:
    """By the pairs' cuts, which stand in the rows."""
    hack, clean = (read_side(start(), side, ["bottleneck"], 64)["bottleneck"] for side in (PAIRS.hack, PAIRS.clean))
    low, high = pair_cuts(run.gate.score(hack), run.gate.score(clean))
    assert low < high and all((row["t_low"], row["t_high"]) == pytest.approx((low, high), abs=1e-5) for row in rows)
    return [ZONE_NAMES[zone] for zone in assign_zones(torch.tensor([row["score"] for row in rows]), low, high)]


@pytest.mark.parametrize("policy", PERMUTED)
def test_permuted_zones_are_those_of_the_scores_within_what_the_policy_names_and_no_less(policy):
    run, rows = one_step(policy=policy, cuts="pairs")
    own, given = own_zones(run, rows["gate"]), [row["zone"] for row in rows["gate"]]
    rollouts = {row["rollout_id"]: row for row in rows["rollouts"]}
    places = [(rollouts[row["rollout_id"]]["problem_id"], rollouts[row["rollout_id"]]["advantage"] > 0) for row in rows["gate"]]
    cells = {"permuted_step": [0] * len(own), "permuted_sign": [sign for _, sign in places], "permuted_prompt_sign": places}
    for name in PERMUTED:  # from the widest cells to the narrowest
        assert (Counter(zip(cells[name], own)) == Counter(zip(cells[name], given))) == (PERMUTED.index(name) <= PERMUTED.index(policy))
    assert own != given


def test_labels_at_the_masses_of_the_scores_route_exploits_first_and_keep_correct_rollouts_first():
    def word(rollouts: Rollouts, readings: Tensor) -> Seen:
        """One rollout in sixteen exploits, three are correct."""
        place = torch.arange(len(rollouts.texts)) % 16
        return Seen((place == 4).float(), place == 4, correct=place % 5 == 2)

    run = trainer(start(), {}, train={"prompts": 16}, gate={"policy": "labelled_masses", "cuts": "pairs"}, max_new_tokens=3)
    run.cut_pairs, run.monitor = PAIRS, word
    rows = run.step(0)
    own, given = own_zones(run, rows["gate"]), [row["zone"] for row in rows["gate"]]
    place = {row["rollout_id"]: i for i, row in enumerate(rows["rollouts"])}
    labels = ["exploited" if p == 4 else "correct" if p % 5 == 2 else "neither" for p in (place[row["rollout_id"]] % 16 for row in rows["gate"])]
    assert Counter(own) == Counter(given)
    rank = {"correct": 0, "neither": 1, "exploited": 2}
    dealt = [ZONE_NAMES.index(zone) for zone in given]
    for first, zone in zip(labels, dealt):
        for other, its_zone in zip(labels, dealt):
            assert rank[first] >= rank[other] or zone <= its_zone
    assert len({(label, zone) for label, zone in zip(labels, given)}) > 3
