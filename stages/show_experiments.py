"""Print the experiments of this commit by their deployed hack rate: what they measured, and the settings in which they differ."""

from collections.abc import Sequence

import dvc.api
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from projected_grpo.core.runtime import run_stage
from projected_grpo.reporting.statements import words

MEASURED = ("hack_rate", "qmass", "solve_rate", "selectivity")
ALONE = ("seed", "launch")
COMMON = ("Experiment", "rev", "typ", "Created", "parent", "State", "Executor")  # keys of a row that are DVC's own


def main() -> None:
    """Experiments of this commit, sorted by hack_rate. Example: python -m stages.show_experiments"""
    Console().print(table(dvc.api.exp_show()))


def table(rows: Sequence[dict]) -> Table:
    """`rows` as DVC's API gives them; a setting's key is sectioned, such as gate.policy, or stands alone in params.yaml."""
    settings = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in COMMON and ("." in key or key in ALONE)]
    differing = [key for key in settings if len({str(row.get(key)) for row in rows}) > 1]
    shown = Table("experiment", *MEASURED, *(key.rpartition(":")[2] for key in differing), box=SIMPLE, padding=(0, 1, 0, 0))
    for row in sorted(rows, key=lambda row: (row.get("hack_rate") is None, row.get("hack_rate"))):
        state = [f"({row['State'].lower()})"] if row["State"] in ("Running", "Queued", "Failed") else []
        settings = [f"{value:g}" if isinstance(value := row.get(key), float) else str(value) for key in differing]
        shown.add_row(" ".join([row["Experiment"] or row["rev"], *state]), *(words(row.get(key)) for key in MEASURED), *settings)
    return shown


if __name__ == "__main__":
    run_stage(main)
