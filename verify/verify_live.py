"""The curve of a run while it trains: proxies from what the environment paid, one line a step, and no part of what DVC keeps."""

import csv
from pathlib import Path

import pytest

from projected_grpo.core.parquet import read_rows
from projected_grpo.core.tables import ROLLOUTS, STEPS
from projected_grpo.grpo.live import COLUMNS, MEASURED, Live, proxies
from projected_grpo.prompts.modes import GT_ONLY


def rollout(state: str, shown: str, passes: bool, channels: str, source: str = "policy") -> dict:
    return {"source": source, "sampled_with": state, "shown_mode": shown, "visible_pass": passes, "channels": channels, "env_status": "ok"}


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


def test_a_resumed_run_begins_with_the_steps_of_its_own_checkpoints_whatever_the_file_held(tmp_path):
    path, step = tmp_path / "reports/live.csv", dict.fromkeys(MEASURED, 0.5)
    steps = [step | {"step": number, "reward_mean": number + 0.5} for number in range(3)]
    paid = [rollout("full", "exit_code", False, "exit_code") | {"step": 1}, rollout("full", "exit_code", False, "") | {"step": 1}]
    path.parent.mkdir()
    path.write_text("another run's\n")
    live = Live(path, {"steps": steps[:2], "rollouts": paid})
    live.add({"steps": [steps[2]], "rollouts": []})
    assert [(row["step"], row["reward_mean"], row["paid_by_loophole_full"]) for row in lines(path)] == [("0", "0.5", ""), ("1", "1.5", "0.5"), ("2", "2.5", "")]
    Live(path, {"steps": [], "rollouts": []})
    assert path.read_text() == ",".join(COLUMNS) + "\n"


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
