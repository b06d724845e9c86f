"""The benchmarks against TRL and on a GPU measure what they say: the same prompts, all rollouts updated, shares of a data sheet."""

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bench.cost import SCALES, passes
from bench.gpu import data_sheet, table
from bench.peer import GROUP, PROMPTS, STEPS, prompts
from bench.stability import longest_excursion, row
from bench.step import PENALTY, arm_settings, every_second
from projected_grpo.core.errors import InputError
from projected_grpo.core.parquet import write_table
from projected_grpo.core.tables import ROLLOUTS as ROLLOUTS_TABLE
from projected_grpo.core.tables import STEPS as STEPS_TABLE
from projected_grpo.environment.grader import PASSES
from projected_grpo.grpo.monitors import watch
from projected_grpo.grpo.rollouts import Rollouts, sample_rollouts
from projected_grpo.prompts.modes import MODES
from projected_grpo.sampling.protocol import Completion
from projected_grpo.toy_world import toy
from verify.sandbox import asking
from verify.tiny import tiny_policy


class Silent:
    """A sampler whose completions are one token."""

    def sample(self, requests):
        return [[Completion([2], [0.0])] * (len(request.prompts) * request.copies) for request in requests]


def test_the_peer_is_asked_what_our_steps_ask_in_their_order():
    settings, base = arm_settings("activation"), tiny_policy(moved=False).base
    problems = [row for row in toy.make_problems(settings.profile.problems, MODES)[0] if row["split"] == "train"]
    asked = base.tokenizer(text=prompts(base, asking(), settings, problems))["input_ids"]
    ours = [sample_rollouts(base, asking(), Silent(), problems, step, settings.profile.train, 2, settings.seed).prompts[::GROUP] for step in range(STEPS)]
    assert asked == [prompt for step in ours for prompt in step] and len(asked) == STEPS * PROMPTS


def test_every_rollout_of_equal_rewards_is_updated_under_the_benchmarks_monitor():
    n, none = 4 * GROUP, torch.zeros(4 * GROUP)
    paid = Rollouts([{}] * n, [""] * n, [[1]] * n, [Completion([2], None)] * n, none.bool(), none.bool(), [""] * n, [""] * n, [], none + 0.5, none, none.bool())
    seen = watch(every_second, PENALTY["use"], paid, none[:, None], GROUP, PASSES)
    assert seen.gated.all() and seen.advantage.view(-1, 2).tolist() == [[1.5, -1.5]] * (n // 2)


def test_sampling_is_compared_with_the_bandwidth_and_gate_and_update_with_the_operations():
    scale = replace(SCALES["qwen3_4b"], prompts=32, group=8, sampled_rows=256)
    read = sum(amount for _, phase, _, amount in passes(scale) if phase == "sample")
    flop = {name: sum(operations for _, phase, operations, _ in passes(scale) if phase == name) for name in ("gate", "update")}
    peak = data_sheet("NVIDIA H200", None, None)
    assert peak == (989e12, 4.8e12)
    seconds = {"sample": 4 * read / 4.8e12, "grade": 1.0, "gate": 5 * flop["gate"] / 989e12, "monitor": 0.0, "update": 2 * flop["update"] / 989e12}
    shown = table(SimpleNamespace(seconds={name: [time, time] for name, time in seconds.items()}), [scale, scale], peak)
    cells = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[3:-1]] for row in shown.splitlines()[2:]}
    assert [cells[name][-1] for name in ("sample", "gate", "update")] == ["25.0%", "20.0%", "50.0%"]
    assert cells["sample"][0] == f"{256 * 1536:,}" and cells["update"][0] == f"{256 * 2036:,}"


def test_a_gpu_without_a_known_peak_is_named_and_its_data_sheet_asked_for():
    with pytest.raises(InputError, match="'NVIDIA A100': found no peak .*--tflops and --terabytes"):
        data_sheet("NVIDIA A100", None, 1.9)
    assert data_sheet("NVIDIA A100", 312.0, 1.9) == (312e12, 1.9e12)
    assert data_sheet("NVIDIA H200", 900.0, None) == (900e12, 4.8e12)


def test_torch_loads_after_the_library_has_set_how_idle_threads_wait():
    code = "import bench, os, sys; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    bare = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "PGRPO_TYPECHECK")}
    assert subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True).stdout.split() == ["10000", "False"]


def test_an_excursion_is_a_row_of_steps_in_which_few_programs_compile():
    assert longest_excursion([0.9, 0.7, 0.79, 0.8, 0.1, 0.2, 0.3, 0.9]) == 3
    assert longest_excursion([0.7, None, 0.7]) == 1 and longest_excursion([]) == 0


def test_the_row_of_a_run_counts_what_was_paid_by_hint_and_time(tmp_path):
    """Of 30 steps the first ten pay one unhinted rollout of two, the last twenty none; the last twenty pay all hinted ones."""
    norms = {"grad_norm_deployed": 0.25, "grad_norm_quarantine": 0.5}
    steps = [{"step": s, "kl": 0.1 * s, "compiled_share": 0.5 if 3 <= s < 9 else 1.0} | norms for s in range(30)]
    paid = [(s, mode, reward) for s in range(30) for mode, reward in (("run_tests", 3.5), ("gt_only", 3.5 if s < 10 else 0.5), ("gt_only", 0.5))]
    rollouts = [
        {"rollout_id": f"{i:05d}", "step": s, "source": "policy", "shown_mode": mode, "reward": reward} for i, (s, mode, reward) in enumerate(paid)
    ]
    for kind, rows in ((STEPS_TABLE, steps), (ROLLOUTS_TABLE, rollouts)):
        write_table(tmp_path / f"{kind.name}.parquet", kind, [dict.fromkeys(kind.columns) | row for row in rows])
    assert row(tmp_path)[1:] == ["30", "1.45", "2.80", "2.90", "0.50", "6", "0.50", "1.00", "0.50", "0.00"]
