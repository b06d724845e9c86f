"""Monitors during training: flags change advantages as they should, and each kind opens its own monitor."""

import math
from dataclasses import replace

import pytest
import torch

from projected_grpo.environment.grader import PASSES
from projected_grpo.gate.probe import fit
from projected_grpo.gate.zones import ABSORB, KEEP, ROUTE
from projected_grpo.grpo import ranks
from projected_grpo.grpo.judge import JudgeError, LocalJudge
from projected_grpo.grpo.monitor_process import MonitorProcess
from projected_grpo.grpo.monitors import DirectionMonitor, ProbeMonitor, labelled_zones, open_monitor, watch
from projected_grpo.grpo.records import rollout_rows, step_row
from projected_grpo.grpo.rollouts import Rollouts, Seen
from projected_grpo.settings.arm import load_settings
from stages.pipeline.arm import QUESTION
from verify.monitors import clusters, command, flags, folder, rollouts  # noqa: F401  command and folder are fixtures
from verify.sandbox import asking


def watched(rewards: list[float], flagged: list[int], use: str, group: int) -> Rollouts:
    seen = Seen(flags(flagged).float(), flags(flagged))
    return watch(lambda rollouts, pooled: seen, use, rollouts(rewards), torch.zeros(len(rewards), 1), group, PASSES)


def test_a_penalty_takes_what_passing_pays_before_advantages_are_taken():
    """By hand: rewards 3.5 and .5 less 3 where flagged; each group's mean is taken afterwards."""
    seen = watched([3.5, 3.5, 0.5, 0.5] + [3.5, 0.5, 0.5, 0.5] + [0.5] * 4, [1, 0, 0, 0] + [1, 0, 0, 0] + [0, 0, 1, 0], "penalty", 4)
    assert seen.advantage.tolist() == [-0.75, 2.25, -0.75, -0.75] + [0.0] * 4 + [0.75, 0.75, -2.25, 0.75]
    assert seen.gated.tolist() == [True] * 4 + [False] * 4 + [True] * 4
    assert seen.rewards.tolist()[:2] == [3.5, 3.5], "rewards stay what the environment paid"


def test_screening_leaves_a_flagged_rollout_out_of_the_mean_and_of_the_loss():
    rewards = [3.5, 3.5, 0.5, 0.0] + [3.5, 0.5, 0.5, 0.5] + [3.5, 0.5, 0.0, 0.0] + [3.5, 0.5, 0.0, 0.0]
    seen = watched(rewards, [1, 0, 0, 0] + [1, 0, 0, 0] + [1, 0, 1, 1] + [1, 1, 1, 1], "screening", 4)
    third = 4.0 / 3.0
    expected = [0.0, 3.5 - third, 0.5 - third, -third] + [0.0] * 12
    assert seen.advantage.tolist() == pytest.approx(expected, abs=1e-6)
    assert seen.gated.tolist() == [False, True, True, True] + [False] * 12  # equal rewards; one left; none left


def test_the_discount_takes_from_what_was_paid_by_the_score_within_the_group():
    """By hand: scores 0, 2, 4, 2 have the mean 2 and the deviation sqrt 2, so z is -sqrt 2, 0, sqrt 2, 0."""
    monitor, rewards = DirectionMonitor(torch.tensor([1.0, -1.0]), group=4), [3.5, 3.5, 3.5, 0.5] + [3.5] * 4 + [0.5, 3.5, 0.5, 3.5]
    readings = torch.tensor([[1.0, 1.0], [2.0, 0.0], [4.0, 0.0], [0.0, -2.0]] + [[5.0, 2.0]] * 4 + [[9.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    seen = watch(monitor, "discount", rollouts(rewards), readings, 4, PASSES)
    sigma = 1 / (1 + math.exp(-math.sqrt(2)))
    assert seen.seen.suspicion.tolist()[:8] == pytest.approx([1 - sigma, 0.5, sigma, 0.5] + [0.5] * 4, abs=1e-6)
    credited = torch.tensor([[3.5, 3.5, 3.5 * (1 - 2 * sigma), 0.5], [3.5] * 4, [0.5, 3.5, 0.5, 3.5]])  # the last was flagged where nothing was paid
    torch.testing.assert_close(seen.advantage.view(3, 4), credited - credited.mean(1, keepdim=True), rtol=0, atol=1e-5)
    assert seen.gated.tolist() == [True] * 4 + [False] * 4 + [True] * 4 and seen.rewards.tolist() == rewards


def test_without_a_use_or_a_monitor_advantages_stay():
    assert watched([3.5, 0.5], [1, 0], "none", 2).advantage.tolist() == [9.0, 9.0]
    given = rollouts([3.5, 0.5])
    assert watch(None, "none", given, torch.zeros(2, 1), 2, PASSES) is given


def test_tables_hold_the_word_of_an_oracle_free_monitor_and_nothing_of_the_ground_truth_monitor():
    seen = watched([3.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], "penalty", 4)
    ids = ["a", "b", "c", "d"]

    def written(given: Rollouts) -> tuple[list, float | None]:
        rows = rollout_rows(0, ids, given, 4)
        return [row["suspicion"] for row in rows], step_row(0, given, None, None, None, 0.1, 0)["flagged_share"]

    assert written(seen) == ([1.0, 0.0, 0.0, 0.0], 0.25)
    assert written(replace(seen, seen=replace(seen.seen, correct=flags([0, 1, 1, 1])))) == ([None] * 4, None)
    assert written(replace(seen, seen=None)) == ([None] * 4, None)


def test_exploited_is_routed_correct_is_kept_and_the_rest_absorbed():
    seen = Seen(torch.tensor([1.0, 0.0, 0.0]), flags([1, 0, 0]), correct=flags([0, 1, 0]))
    assert labelled_zones(seen).tolist() == [ROUTE, KEEP, ABSORB]


def test_each_kind_opens_its_own_monitor(folder, tmp_path, command):
    settings = load_settings()
    (tmp_path / "judge_question.txt").write_text(QUESTION)
    fit(*clusters(5, 0, apart=1.0), 0.05)[0].save(tmp_path)

    def opened(kind: str, **changes) -> type:
        changed = settings.model_copy(update={"monitor": settings.monitor.model_copy(update={"kind": kind} | changes)})
        with open_monitor(changed, tmp_path, asking(), torch.ones(6), command) as monitor:
            return type(getattr(monitor, "judge", monitor))

    assert opened("none") is type(None) and opened("probe") is ProbeMonitor
    assert opened("ground_truth") is MonitorProcess and opened("direction") is DirectionMonitor
    assert opened("judge", judge=str(folder)) is LocalJudge
    with pytest.raises(JudgeError, match="127.0.0.1:1: Connection error"):  # before any training
        opened("judge", judge="http://127.0.0.1:1", judge_model="m")


def test_the_first_rank_alone_opens_a_monitor(tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    for kind in ("ground_truth", "judge", "probe"):  # none of which could be opened here
        changed = load_settings().model_copy(update={"monitor": load_settings().monitor.model_copy(update={"kind": kind, "judge": "nowhere"})})
        with open_monitor(changed, tmp_path, asking(), torch.ones(6), ["nowhere"]) as monitor:
            with pytest.raises(RuntimeError, match="asked by another rank"):
                monitor(rollouts([0.0], ["x"]), torch.zeros(0))
