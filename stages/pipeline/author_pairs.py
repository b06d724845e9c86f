"""Read the authored pairs that the profile selects, audit them, and write both tables."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from projected_grpo.core.parquet import write_table
from projected_grpo.core.runtime import run_stage
from projected_grpo.core.tables import PAIR_AUDIT, PAIRS
from projected_grpo.problems.pairs import audit_pairs, select_pairs
from projected_grpo.settings.arm import load_settings


def main(
    pairs: Annotated[Path, typer.Option(help="Table pairs, written.")],
    audit: Annotated[Path, typer.Option(help="Table pair_audit, written.")],
    irrelevant: Annotated[Path, typer.Option(help="Table pairs of an irrelevant contrast, written.")],
) -> None:
    settings = load_settings().profile.pairs
    rows, placebo = select_pairs(settings.selector), select_pairs(settings.irrelevant)
    audited = audit_pairs(rows, settings.selector)
    audit_pairs(placebo, settings.irrelevant)
    write_table(pairs, PAIRS, rows)
    write_table(audit, PAIR_AUDIT, audited)
    write_table(irrelevant, PAIRS, placebo)
    Console().print(_summary(settings.selector, audited))


def _summary(selector: str, audited: list[dict]) -> Table:
    table = Table(title=f"pairs of {selector}", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_row("pairs", str(len(audited)))
    for mode, count in sorted(Counter(row["mode"] for row in audited).items()):
        table.add_row(f"  {mode}", str(count))
    table.add_row("mean length gap, clean - hack", f"{audited[0]['mean_length_gap']:+.2%}")
    table.add_row("sign test p, longer side", f"{audited[0]['sign_test_p']:.3f}")
    return table


if __name__ == "__main__":
    run_stage(main)
