"""`make show` fits an ordinary terminal: experiments by deployed hack rate, with the settings that differ and no other."""

from rich.console import Console

from stages.show_experiments import table

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


def test_one_row_has_no_settings() -> None:
    assert _lines(_row(None, None, 0.3))[0] == ["experiment", "hack_rate", "qmass", "solve_rate", "selectivity"]
