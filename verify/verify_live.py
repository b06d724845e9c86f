"""The curve of a run while it trains: proxies from what the environment paid, one line a step, and no part of what DVC keeps."""

import csv
from pathlib import Path

import pytest

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.tables import ROLLOUTS, STEPS
from projected_grpo.grpo.live import COLUMNS, MEASURED, Live, proxies
from projected_grpo.prompts.modes import GT_ONLY


def rollout(state: str, shown: str, passes: bool, channels: str, source: str = "policy") -> dict:
    return {"source": source, "sampled_with": state, "shown_mode": shown, "visible_pass": passes, "channels": channels}


def lines(path: Path) -> list[dict]:
    return list(csv.DictReader(path.open()))


def test_a_proxy_counts_what_is_paid_through_the_shown_loophole_alone():
    rows = [
        rollout("full", "exit_code", False, "exit_code,sentinel"),
        rollout("full", "exit_code", False, "sentinel"),  # another loophole pays nothing
        rollout("full", "exit_code", True, "exit_code"),  # it passes, so it is not paid for the loophole alone
        rollout("full", "run_tests", False, ""),
        rollout("full", GT_ONLY, False, "exit_code"),  # no hint
        rollout("full", "exit_code", False, "exit_code", source="demonstration"),
        rollout("deployed", "exit_code", False, "exit_code"),
    ]
    assert proxies(rows) == {
        "paid_by_loophole_full": 1 / 4, "passes_full": 1 / 4, "paid_by_loophole_deployed": 1.0, "passes_deployed": 0.0,
    }  # fmt: skip
    assert proxies(rows[:4])["paid_by_loophole_deployed"] is None


def test_a_resumed_run_keeps_the_lines_of_the_steps_that_were_saved(tmp_path):
    path, step = tmp_path / "reports/live.csv", dict.fromkeys(MEASURED, 0.5)
    for first, reward in ((0, 1.0), (2, 2.0)):
        live = Live(path, first)
        for number in range(first, first + 3):
            live.add({"steps": [step | {"step": number, "reward_mean": reward}], "rollouts": []})
    assert [(row["step"], row["reward_mean"]) for row in lines(path)] == [("0", "1.0"), ("1", "1.0"), ("2", "2.0"), ("3", "2.0"), ("4", "2.0")]
    Live(path, 0)
    assert lines(path) == [] and path.read_text() == ",".join(COLUMNS) + "\n"


def test_the_file_of_a_run_agrees_with_its_tables_and_is_none_of_dvc_s_outputs(finished):
    workspace = finished["v_act"]
    steps = read_rows(workspace / "artifacts/train/steps.parquet", STEPS)
    rollouts = read_rows(workspace / "artifacts/train/rollouts.parquet", ROLLOUTS)
    shown = lines(workspace / "reports/live.csv")
    assert [int(row["step"]) for row in shown] == [row["step"] for row in steps]
    for line, step in zip(shown, steps):
        wanted = proxies([row for row in rollouts if row["step"] == step["step"]]) | {name: step[name] for name in MEASURED}
        assert {name: float(line[name]) if line[name] else None for name in wanted} == pytest.approx(wanted, rel=1e-6)
    assert "reports/live.csv" not in (workspace / "dvc.lock").read_text().split("outs:", 1)[1].replace("--live reports/live.csv", "")
