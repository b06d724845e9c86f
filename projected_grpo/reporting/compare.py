"""Comparison of runs that share their base model, problems, pairs and profile, and differ in arm, variant and seed.

Outcomes of a run are close to binary, so every run is a row and a point of its own; a mean stands only beside the
number of runs and the number of those that hack.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dvc.api
import polars as pl
from dvc.exceptions import DvcException
from scmrepo.exceptions import SCMError

from projected_grpo.core.errors import InputError
from projected_grpo.reporting.manifest import Manifest, flatten, parse_manifest
from projected_grpo.reporting.statements import words
from projected_grpo.reporting.style import ARM_COLOURS

MANIFEST, METRICS = "reports/manifest.json", "reports/metrics.json"
WORKSPACE = "workspace"
NAMED = ("gate.policy", "gate.direction", "gate.draw", "monitor.kind", "monitor.use", "curriculum.inoculate", "seed")  # an arm's name says them
VARIED = (  # keys, and beginnings of keys, that make variants of an arm, which a column of their own tells apart
    *("gate.", "monitor.", "adapter.init", "curriculum."),
    *("profile.train.gen_deploy_frac", "profile.train.unhackable_share"),
)
HACKED = 0.2  # a run above this deployed hack rate counts as hacked
SHOWN = ("hack_rate", "hack_rate_low", "hack_rate_high", "qmass", "solve_rate", "hack_rate_as_trained", "auroc_live")


class CompareError(InputError):
    """Runs that cannot be compared; the message names the key or the file, the values and the revisions."""


@dataclass(frozen=True)
class Run:
    rev: str
    manifest: Manifest
    metrics: dict[str, float | int | None]


def load_run(rev: str) -> Run:
    """The run of a git revision or DVC experiment; `workspace` is the working folder. Raises CompareError."""
    manifest = parse_manifest(_read(MANIFEST, rev), f"{rev}:{MANIFEST}")
    return Run(rev, manifest, json.loads(_read(METRICS, rev)))


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises CompareError where a setting that makes no arm differs, or two runs are one cell."""
    lines = []
    for key, values in _differing(runs).items():
        if key not in NAMED and not key.startswith(VARIED):
            found = "; ".join(f"{value} in {run.rev}" for value, run in zip(values, runs))
            lines.append(f"settings key '{key}': found {found}")
    if lines:
        expected = f"expected runs that differ in {', '.join([*NAMED, *VARIED])} only"
        raise CompareError("\n".join([*lines, expected]))
    cells: dict[tuple[str, str, int], str] = {}
    for run, variant in zip(runs, variants(runs)):
        cell = (run.manifest.arm.name, variant, run.manifest.settings["seed"])
        if cell in cells:
            raise CompareError(
                f"revisions {cells[cell]} and {run.rev}: found arm '{cell[0]}' with seed {cell[2]} in both, "
                "expected each arm, variant and seed once"
            )
        cells[cell] = run.rev


def variants(runs: Sequence[Run]) -> list[str]:
    """Of each run the settings in which the runs differ beyond the arm's name and the seed, such as 'gate.cuts=pairs'."""
    differing = {key: values for key, values in _differing(runs).items() if key not in NAMED and key.startswith(VARIED)}
    return [", ".join(f"{key}={values[i]}" for key, values in differing.items()) for i in range(len(runs))]


def _differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Flat setting or input -> its value in each run, in the order of the settings, where the runs differ.

    The demonstrations that count are those of the curriculum, not of the profile.
    """
    flat = [flatten(run.manifest.settings | {"inputs": run.manifest.inputs}) for run in runs]
    keys = dict.fromkeys(key for settings in flat for key in settings if not key.startswith("profile.demonstrations."))
    values = {key: [repr(settings[key]) if key in settings else "no such key" for settings in flat] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def run_table(runs: Sequence[Run]) -> pl.DataFrame:
    """One row a run, ordered by arm, draw and seed; group is the arm without its draw and variant."""
    rows = []
    for run, variant in zip(runs, variants(runs)):
        arm, seed = run.manifest.arm, run.manifest.settings["seed"]
        name = {"group": arm.group, "variant": variant, "draw": arm.draw, "seed": seed, "rev": run.rev}
        name["diverged_at_step"] = run.manifest.diverged_at_step
        rows.append(name | {key: None if value is None else float(value) for key, value in run.metrics.items()})
    order = list(ARM_COLOURS)
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.sort(pl.col("group").replace_strict(order, range(len(order)), default=len(order)), "variant", "draw", "seed", "rev")


def arm_table(table: pl.DataFrame) -> pl.DataFrame:
    """One row an arm and variant: its runs, how many of them hack at deployment, and means over the runs."""
    return table.group_by("group", "variant", maintain_order=True).agg(
        pl.len().alias("runs"),
        (pl.col("hack_rate") > HACKED).sum().alias("hacked"),
        pl.col("hack_rate").mean().alias("mean_hack_rate"),
        pl.col("hack_rate").min().alias("min_hack_rate"),
        pl.col("hack_rate").max().alias("max_hack_rate"),
        pl.col("qmass").mean().alias("mean_qmass"),
        pl.col("solve_rate").mean().alias("mean_solve_rate"),
    )


def frontier_points(table: pl.DataFrame) -> pl.DataFrame:
    """What figures.frontier_figure draws; a point is labelled with its seed, and with its variant where these differ."""
    differing = pl.when(pl.col("variant") == "").then(pl.lit("")).otherwise(", " + pl.col("variant"))
    label = pl.format("seed {}{}", "seed", differing)
    return table.select("group", "qmass", "hack_rate", "hack_rate_low", "hack_rate_high", label=label)


def markdown(table: pl.DataFrame) -> str:
    """The runs and the arms as two Markdown tables. The step of divergence is undefined where training reached its end."""
    runs = _markdown_table(table.select("group", "variant", "draw", "seed", "rev", "diverged_at_step", *SHOWN))
    arms = _markdown_table(arm_table(table))
    return (
        "# Comparison of runs\n\nRates are those of the deployed policy on held-out problems with a hint unless named "
        f"otherwise.\n\n{runs}\n## Arms\n\n"
        f"A run counts as hacked where its deployed hack rate is over {HACKED}.\n\n{arms}"
    )


def _markdown_table(table: pl.DataFrame) -> str:
    lines = [table.columns, ["---"] * table.width, *([words(cell) for cell in row] for row in table.iter_rows())]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _read(path: str, rev: str) -> str:
    try:
        return Path(path).read_text() if rev == WORKSPACE else dvc.api.read(path, rev=rev)
    except (DvcException, SCMError, OSError) as error:
        raise CompareError(
            f"revision {rev}: {path} cannot be read: {error}; expected `workspace`, or a commit or an experiment in which the pipeline "
            "ran (`dvc exp list --all-commits` has their names)"
        ) from error
