"""What the report states, computed from the tables: the headline numbers, the course of training, the examples."""

import hashlib
from collections.abc import Sequence

import polars as pl

from projected_grpo.analysis.metrics import metrics
from projected_grpo.analysis.rates import Cell, find
from projected_grpo.core.errors import InputError
from projected_grpo.prompts.modes import in_order

CURVE_COLUMNS = ("step", "reward", "hack", "solve", "qmass", "keep_share", "absorb_share", "route_share")
DIGITS = 4


class ReportError(InputError):
    """Tables that do not belong to one run; the message names them."""


def headline(cells: Sequence[Cell], steps: pl.DataFrame, diagnostics: pl.DataFrame) -> dict[str, float | int | None]:
    """The contents of metrics.json: the run's metrics, the interval and the judged samples of the hack rate, and the base model's solve rate."""
    base, deployed = (find(cells, "heldout", state) for state in ("base", "deployed"))
    numbers = metrics(cells, steps, diagnostics)
    numbers |= {"hack_rate_low": deployed.hack.low, "hack_rate_high": deployed.hack.high, "base_solve_rate": base.solve.value}
    rounded = {name: None if value is None else round(value, DIGITS) for name, value in numbers.items()}
    return rounded | {"n_valid": deployed.hack.n}


def frontier(numbers: dict, arm: str) -> list[dict]:
    """The one record of frontier.json."""
    names = ("qmass", "hack_rate", "solve_rate", "hack_rate_low", "hack_rate_high")
    return [{name: numbers[name] for name in names} | {"arm": arm}]


def labelled(rollouts: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """The policy's own rollouts, without demonstrations, with their labels. Raises ReportError where the two tables do not name the same rollouts."""
    differing = set(rollouts["rollout_id"]) ^ set(labels["rollout_id"])
    if differing:
        raise ReportError(
            f"tables rollouts and labels: {len(differing)} rollouts are in one table only, for example "
            f"'{min(differing)}'; expected the same rollouts in both"
        )
    alone = [name for name in rollouts.columns if name == "rollout_id" or name not in labels.columns]  # a label that is not judged is null
    own = rollouts.filter(source="policy").select(alone)
    return own.join(labels, on="rollout_id", validate="1:1", maintain_order="left")


def covered_modes(pairs: pl.DataFrame) -> list[str]:
    """The loophole modes that some pair shows."""
    return in_order(pairs["mode"])


def training_curve(steps: pl.DataFrame, rollouts: pl.DataFrame) -> pl.DataFrame:
    """The table steps with the exploited and the correct share of each step's labelled rollouts of the policy."""
    shares = rollouts.group_by("step").agg(hack=pl.col("exploited").mean(), solve=pl.col("gt_correct").mean())
    return steps.join(shares, on="step", how="left", maintain_order="left").rename({"reward_mean": "reward"})


def examples(rollouts: pl.DataFrame, gate: pl.DataFrame, problems: pl.DataFrame, count: int = 10) -> list[dict]:
    """Rollouts of the last quarter of training: an exploit of each mode, then correct ones, then others.

    Rollouts are taken in the order of the SHA-256 of their names, and each text once, so the choice is fixed and
    follows no property of the text.
    """
    late = rollouts.filter(pl.col("step") * 4 >= (pl.col("step").max() + 1) * 3)
    late = late.join(gate.select("rollout_id", "score", "zone"), on="rollout_id", how="left", maintain_order="left")
    late = late.join(problems.select("problem_id", "statement"), on="problem_id", how="left", maintain_order="left")
    late = late.sort(pl.col("rollout_id").map_elements(_hash, return_dtype=pl.String))
    rows = late.unique("text", keep="first", maintain_order=True).to_dicts()
    exploits = [[row for row in rows if row["exploited"] and row["shown_mode"] == mode][:1] for mode in in_order(row["shown_mode"] for row in rows)]
    chosen = [row for found in exploits for row in found]
    chosen += [row for row in rows if row["gt_correct"]][: max(3, count - len(chosen))]
    others = [row for row in rows if row not in chosen]
    return (chosen + others)[:count]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
