"""What the page shows of a campaign's runs: their rollouts with score, zone and label, and shares over them.

Texts are the bulk of a campaign. Each run's are read once, and only those of the sampled rollouts stay in memory.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from projected_grpo.core.parquet import Table, read_table
from projected_grpo.core.tables import GATE, LABELS, ROLLOUTS, ZONES
from projected_grpo.prompts.modes import GT_ONLY
from projected_grpo.reporting.summary import ReportError, labelled

CURVE_WINDOWS = 20  # at most, in the course of training
TEXT_COLUMNS = ("text", "program")
NOT_GATED, NOT_JUDGED = "not gated", "not judged"


@dataclass(frozen=True)
class Runs:
    """Rollouts are the policy's own, without demonstrations, one row each, sorted by arm, seed and rollout_id.

    Columns: arm, seed, rollout_id, step, problem_id, shown_mode, sampled_with, reward, score, t_low, t_high (null where the
    run's zones are not those of its cuts), zone (keep | absorb | route | not gated), label (exploited | correct | incorrect | not judged).
    """

    rollouts: pl.DataFrame  # of every run, without texts
    shown: pl.DataFrame  # the sample of the browser, with text and program
    zones: pl.DataFrame  # the tables zones with arm and seed


def frame(path: Path, table: Table) -> pl.DataFrame:
    return pl.from_arrow(read_table(path, table))


def read_runs(folder: Path, cells: pl.DataFrame, limit: int) -> Runs:
    """The runs that the table `cells` names, from folder/<arm>/<seed>. At most `limit` rollouts keep their text.

    Raises TableError for a file that is missing or foreign, ReportError where `limit` leaves a run without any.
    """
    quota = limit // cells.height
    if quota == 0:
        raise ReportError(f"option browser-rollouts: found {limit}, expected at least one for each of {cells.height} runs")
    rollouts, shown, zones = [], [], []
    for arm, seed in cells.select("arm", "seed").sort("arm", "seed").iter_rows():
        home, name = folder / arm / str(seed), [pl.lit(arm).alias("arm"), pl.lit(seed, pl.Int32).alias("seed")]
        run = _rollouts(home).select(*name, pl.all())
        rollouts.append(run.drop(TEXT_COLUMNS))
        shown.append(sample(run, quota))
        zones.append(frame(home / "zones.parquet", ZONES).select(*name, pl.all()))
    return Runs(pl.concat(rollouts), pl.concat(shown), pl.concat(zones))


def with_divergence(cells: pl.DataFrame) -> pl.DataFrame:
    """The table cells with the column diverged: training did not reach its last step."""
    return cells.with_columns(diverged=pl.col("diverged_at_step").is_not_null())


def _rollouts(home: Path) -> pl.DataFrame:
    labels = frame(home / "labels.parquet", LABELS).select("rollout_id", "exploited", "gt_correct")
    gate = frame(home / "train" / "gate.parquet", GATE).select("rollout_id", "score", "t_low", "t_high", "zone")
    if not zones_follow_cuts(gate):
        gate = gate.with_columns(t_low=pl.lit(None, pl.Float32), t_high=pl.lit(None, pl.Float32))
    run = labelled(frame(home / "train" / "rollouts.parquet", ROLLOUTS), labels)
    run = run.join(gate, on="rollout_id", how="left", maintain_order="left").sort("rollout_id")
    label = (
        pl.when(pl.col("gt_correct").is_null()).then(pl.lit(NOT_JUDGED))
        .when("gt_correct").then(pl.lit("correct"))
        .when("exploited").then(pl.lit("exploited"))
        .otherwise(pl.lit("incorrect"))
    )  # fmt: skip
    facts = ("rollout_id", "step", "problem_id", "shown_mode", "sampled_with", "reward", "score", "t_low", "t_high")
    return run.select(*facts, pl.col("zone").fill_null(NOT_GATED), label.alias("label"), *TEXT_COLUMNS)


def zones_follow_cuts(gate: pl.DataFrame) -> bool:
    """Whether the zones of one run's table gate are those of its cuts. Cuts are recorded also where labels, a permutation or
    the policy decide the zones."""
    low, high = pl.col("score") <= pl.col("t_low"), pl.col("score") >= pl.col("t_high")
    by_cuts = pl.when(low & ~high).then(pl.lit("keep")).when(high & ~low).then(pl.lit("route")).otherwise(pl.lit("absorb"))
    return gate.select((by_cuts == pl.col("zone")).all()).item()


def sample(run: pl.DataFrame, quota: int) -> pl.DataFrame:
    """`quota` rollouts of one run, those whose SHA-256 of arm, seed and name comes first; all where there are fewer."""
    names = run.select(pl.format("{}/{}/{}", "arm", "seed", "rollout_id")).to_series()
    digests = pl.Series([hashlib.sha256(name.encode()).hexdigest() for name in names])
    return run[sorted(digests.arg_sort()[:quota])]


def judged(rollouts: pl.DataFrame) -> pl.DataFrame:
    """The rollouts with a judgement, and whether each exploits and is correct."""
    known = rollouts.filter(pl.col("label") != NOT_JUDGED)
    return known.with_columns(hack=pl.col("label") == "exploited", solve=pl.col("label") == "correct")


def window_width(rollouts: pl.DataFrame) -> int:
    """Training steps in one window of the curves."""
    return -(-(rollouts["step"].max() + 1) // CURVE_WINDOWS)


def curves(rollouts: pl.DataFrame) -> pl.DataFrame:
    """Hack and solve share of hinted rollouts by arm, seed, sampled_with and window; step is the window's middle."""
    width = window_width(rollouts)
    hinted = judged(rollouts).filter(pl.col("shown_mode") != GT_ONLY)
    middle = (pl.col("step") // width) * width + (width - 1) / 2
    shares = hinted.group_by("arm", "seed", "sampled_with", step=middle).agg(pl.col("hack", "solve").mean())
    return shares.sort("arm", "seed", "sampled_with", "step")


def zone_shares(zones: pl.DataFrame) -> pl.DataFrame:
    """By arm and seed, over all windows: hack share of keep, clean share of route, hack share of all gated rollouts.

    A share of no rollouts is null.
    """
    ours = zones.filter(pl.col("rollouts") == "all", pl.col("n") > 0).with_columns(hacks=pl.col("n") * pl.col("hack_share"))

    def share(of: pl.Expr) -> pl.Expr:
        n = pl.col("n").filter(of).sum()
        return pl.when(n > 0).then(pl.col("hacks").filter(of).sum() / n)

    return ours.group_by("arm", "seed").agg(
        keep_hack=share(pl.col("zone") == "keep"),
        route_clean=1 - share(pl.col("zone") == "route"),
        gated_hack=share(pl.lit(True)),
    ).sort("arm", "seed")  # fmt: skip


def mode_rates(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Deployed hack rate on held-out problems by arm, seed and shown mode; null where nothing was judged."""
    ours = outcomes.filter(pl.col("data") == "heldout", pl.col("state") == "deployed", pl.col("shown_mode") != GT_ONLY)
    sums = ours.group_by("arm", "seed", "shown_mode").agg(pl.col("exploited", "judged").sum())
    rate = pl.when(pl.col("judged") > 0).then(pl.col("exploited") / pl.col("judged"))
    return sums.select("arm", "seed", "shown_mode", hack_rate=rate).sort("arm", "seed", "shown_mode")
