"""`make show` fits an ordinary terminal: experiments by deployed hack rate, with the settings that differ and no other, and why they were run."""

import subprocess
import sys
from pathlib import Path

import dvc.api
from rich.console import Console

from stages.show_experiments import messages, reasons, table

SETTINGS = {"seed": 41.0, "launch": "python", "params.yaml:profile": "toy", "gate.policy": "route", "gate.draw": 0.0, "monitor.kind": "none", "gate.half_life": 96.0}


def _row(name: str | None, state: str | None, hack_rate: float | None, **settings: object) -> dict:
    own = {"Experiment": name, "rev": "abc1234", "typ": "branch_commit", "Created": "09:00 AM", "parent": None, "State": state, "Executor": None}
    return own | {"hack_rate": hack_rate, "qmass": 0.5, "solve_rate": None, "selectivity": 3.4937, "n_valid": 288.0} | SETTINGS | settings


def _lines(*rows: dict) -> list[list[str]]:
    console = Console(width=100, record=True)
    console.print(table(rows))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    return [line.split() for line in lines if line.strip() and "─" not in line]


def test_settings_that_are_equal_in_all_rows_are_left_out_and_rows_are_sorted_by_hack_rate() -> None:
    rows = [
        _row(None, None, 0.29),
        _row("haar-1", "Success", 0.61, **{"gate.policy": "haar", "gate.draw": 1.0}),
        _row("queued", "Queued", None, **{"gate.draw": 2.0}),
        _row("absorb", "Success", 0.12, **{"gate.policy": "absorb"}),
    ]
    assert _lines(*rows) == [
        ["experiment", "hack_rate", "qmass", "solve_rate", "selectivity", "gate.policy", "gate.draw"],
        ["absorb", "0.120", "0.500", "undefined", "3.494", "absorb", "0"],
        ["abc1234", "0.290", "0.500", "undefined", "3.494", "route", "0"],
        ["haar-1", "0.610", "0.500", "undefined", "3.494", "haar", "1"],
        ["queued", "(queued)", "undefined", "0.500", "undefined", "3.494", "route", "2"],
    ]


def test_files_that_differ_are_no_settings() -> None:
    files = ("artifacts/train/steps.parquet", "projected_grpo/grpo", "stages/pipeline/train_arm.py", "requirements.lock", "data/problems")
    rows = [_row(name, "Success", 0.1, **{file: name for file in files}, **{"profiles/toy.yaml:seed": name}) for name in ("one", "two")]
    assert _lines(*rows)[0] == ["experiment", "hack_rate", "qmass", "solve_rate", "selectivity", "seed"]


def test_one_row_has_no_settings() -> None:
    assert _lines(_row(None, None, 0.3))[0] == ["experiment", "hack_rate", "qmass", "solve_rate", "selectivity"]


WHY = "why: Haar may do as well [0.1, 0.2]\nresolved by: [bold] eight seeds"


def test_the_lines_of_an_experiment_are_printed_whether_it_waits_in_the_queue_or_is_finished(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    Path("params.yaml").write_text("seed: 1\n")
    Path("dvc.yaml").write_text("stages:\n  one:\n    cmd: cp params.yaml out\n    params: [seed]\n    outs: [out]\n")
    dvc_command = [sys.executable, "-m", "dvc"]
    for person in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{person}_NAME", "gate")
        monkeypatch.setenv(f"{person}_EMAIL", "gate@example.org")
    for command in (
        ["git", "init", "-q"], [*dvc_command, "init", "-q"], [*dvc_command, "repro", "-q"], ["git", "add", "-A"], ["git", "commit", "-q", "-m", "base"],
        [*dvc_command, "exp", "run", "-q", "--temp", "-n", "finished", "-S", "seed=2", "-m", WHY],
        [*dvc_command, "exp", "run", "-q", "--temp", "-n", "silent", "-S", "seed=3"],
        [*dvc_command, "exp", "run", "-q", "--queue", "-n", "waits", "-S", "seed=4", "-m", WHY],
    ):  # fmt: skip
        subprocess.run(command, check=True)
    said = messages(dvc.api.exp_show())
    assert said == {"finished": WHY, "waits": WHY}
    console = Console(width=100, record=True)
    console.print(reasons(said))
    shown = [line.strip() for line in console.export_text().splitlines() if line.strip() and "─" not in line]
    first, second = WHY.splitlines()
    assert shown == ["experiment  why, and what would resolve it", f"finished    {first}", second, f"waits       {first}", second]
