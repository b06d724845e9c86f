"""What a re-analysis changed, as rows of words: labels by column, rates, and the verdict of a campaign.

`before` and `after` are folders of one layout, with the saved results and the new ones; "0.20 -> 0.25" is before and after.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from projected_grpo.analysis.rates import find, two_by_two
from projected_grpo.core.parquet import Table, read_rows, read_table
from projected_grpo.core.tables import DATA, EVAL, LABELS, STATES
from projected_grpo.reporting.saved import Run, Saved, SavedError, shown_arm
from projected_grpo.reporting.statements import DATA_NAMES, STATE_NAMES, words
from projected_grpo.reporting.verdict import stated


def label_changes(before: Path, after: Path, runs: Sequence[Run]) -> list[list[str]]:
    """A head, then for each column the rows whose label is another one, over all runs."""
    names = {"labels": LABELS, "eval": EVAL}
    found = {name: _disagreements(before, after, [run.home / f"{name}.parquet" for run in runs], names[name]) for name in names}
    (training, rollouts), (evaluation, completions) = found["labels"], found["eval"]
    head = ["column", f"training rollouts (of {rollouts})", f"evaluation (of {completions})"]
    columns = [name for name in LABELS.columns if name not in LABELS.key]
    return [head, *([name, str(training[name]), str(evaluation[name]) if name in EVAL.columns else ""] for name in columns)]


def _disagreements(before: Path, after: Path, paths: Sequence[Path], table: Table) -> tuple[Counter, int]:
    """Column -> rows in which it differs, nulls compared as values; and the number of rows."""
    counts, rows = Counter(), 0
    for path in paths:
        old, new = (pl.from_arrow(read_table(home / path, table)) for home in (before, after))
        both = old.join(new, on=list(table.key), suffix="_new", validate="1:1")
        if not old.height == new.height == both.height:
            raise SavedError(f"{path}: the saved labels are of other rollouts than the saved rollouts; run the pipeline again")
        columns = [name for name in table.columns if name not in table.key]
        counts.update(both.select(pl.col(name).ne_missing(pl.col(f"{name}_new")).sum() for name in columns).row(0, named=True))
        rows += both.height
    return counts, rows


def rate_changes(before: Path, after: Path, saved: Saved) -> list[list[str]]:
    """A head, then the 2x2 of the run; of the runs of a campaign its held-out part."""
    head = ["arm", "seed", "data", "state", "hack rate", "solve rate"]
    rows = []
    for run in saved.runs:
        old, new = (two_by_two(read_rows(home / run.home / "eval.parquet", EVAL)) for home in (before, after))
        for data in DATA if saved.campaign is None else DATA[:1]:
            for state in STATES:
                was, now = find(old, data, state), find(new, data, state)
                rates = [_change(was.hack.value, now.hack.value), _change(was.solve.value, now.solve.value)]
                rows.append([shown_arm(run, after), str(run.seed), DATA_NAMES[data], STATE_NAMES[state], *rates])
    return [head, *rows]


def verdict_changes(before: Path, after: Path) -> list[list[str]]:
    """A head, then each claim of both verdicts, JSON files of stages/pipeline/verdict.py."""
    old, new = ({one["name"]: one for one in json.loads(path.read_text())["claims"]} for path in (before, after))
    rows = []
    for name in (name for name in old if name in new):
        rows.append([name, _change(stated(old[name]), stated(new[name])), _change(old[name]["p"], new[name]["p"])])
    return [["claim", "wording", "p"], *rows]


def _change(was: object, now: object) -> str:
    return f"{words(was)} -> {words(now)}"
