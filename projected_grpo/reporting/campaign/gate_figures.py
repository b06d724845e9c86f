"""The figures of the gate: score histograms with the cuts, v_act against its nulls, what the zones held."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from projected_grpo.analysis.classifier import separation
from projected_grpo.reporting.campaign.panels import Styles, panel, rows
from projected_grpo.reporting.campaign.runs import NOT_GATED, judged
from projected_grpo.reporting.style import ARM_COLOURS, INK, LABEL_COLOURS

BINS = 36
REST = "#8A8A8A"
NULLS = {"haar": ("Haar draws", ARM_COLOURS["route haar"]), "sign": ("v_act's pairs with other signs", "#56B4E9")}
DIRECTIONS = {  # direction -> name, colour, line
    "v_act": ("v_act", ARM_COLOURS["route v_act"], "-"),
    "oracle": ("oracle (uses ground truth)", INK, "--"),
}
POPULATIONS = {"all": "all rollouts", "positive_advantage": "positive advantage"}
CUTS = {"t_low": ("keep", "#00734F", "--"), "t_high": ("route", "#A8487F", ":")}  # cut -> zone, colour, line


def routed_arms(rollouts: pl.DataFrame) -> list[str]:
    """Arms of which some rollout was kept or routed."""
    return rollouts.filter(pl.col("zone").is_in(["keep", "route"]))["arm"].unique().sort().to_list()


def scores(rollouts: pl.DataFrame, styles: Styles, names: Mapping[str, str]) -> list[str]:
    """One panel a routed arm: densities of the routing score of exploits and of the rest, in the first fifth of the
    training steps above the last fifth, with the medians of both cuts and their range."""
    gated = judged(rollouts).filter(pl.col("zone") != NOT_GATED)
    steps = rollouts["step"].max() + 1
    parts = {"first fifth": pl.col("step") * 5 < steps, "last fifth": pl.col("step") * 5 >= 4 * steps}

    def draw_arm(arm: str) -> str:
        ours = gated.filter(arm=arm)
        low, high = np.quantile(ours["score"].to_numpy(), [0.002, 0.998])
        bins = np.linspace(low, high, BINS + 1)

        def draw(figure: Figure) -> None:
            for axis, (title, chosen) in zip(figure.subplots(2, 1, sharex=True), parts.items(), strict=True):
                here = ours.filter(chosen)
                _densities(axis, here, bins)
                for name, (zone, colour, line) in CUTS.items():
                    _cut(axis, here.filter(pl.col(name).is_finite())[name].to_numpy(), colour, line)
                axis.set_title(f"{title}: {_aurocs(here)}", fontsize=8, fontweight="normal", pad=4)
                axis.set_yticks([])
                axis.set_xlim(low, high)
            axis.set_xlabel("routing score")
            figure.suptitle(names[arm], x=0.01, ha="left", fontsize=10, fontweight="bold")

        return panel(draw, 3.5, f"Arm {names[arm]}: routing scores of exploits and of the rest. " + "; ".join(
            f"{title}: {_aurocs(ours.filter(chosen))}" for title, chosen in parts.items()
        ))  # fmt: skip

    return [draw_arm(arm) for arm in styles if arm in set(routed_arms(rollouts))]


def _densities(axis: Axes, here: pl.DataFrame, bins: np.ndarray) -> None:
    for hack, colour, alpha in ((False, REST, 0.45), (True, LABEL_COLOURS["hack"], 0.35)):
        values = here.filter(hack=hack)["score"].to_numpy()
        if len(values):
            inside = np.clip(values, bins[0], bins[-1])
            axis.hist(inside, bins, density=True, color=colour, alpha=alpha, linewidth=0)
            axis.hist(inside, bins, density=True, histtype="step", color=colour, linewidth=1.1)


def _cut(axis: Axes, values: np.ndarray, colour: str, line: str) -> None:
    if len(values):
        axis.axvspan(values.min(), values.max(), color=colour, alpha=0.12, linewidth=0)
        axis.axvline(float(np.median(values)), color=colour, linestyle=line, linewidth=1.8)


def _aurocs(here: pl.DataFrame) -> str:
    """AUROC of the score for exploits, run by run."""
    found = []
    for seed in here["seed"].unique().sort():
        run = here.filter(seed=seed)
        found.append(separation(run["score"].to_numpy(), run["hack"].to_numpy(), 0.1)["auroc"])
    return "AUROC " + " ".join("undefined" if value is None else f"{value:.2f}" for value in found)


def nulls(gate_test: pl.DataFrame, histograms: pl.DataFrame) -> list[str]:
    """One panel a reading and population: AUROC of v_act and of the oracle among the directions of the two nulls."""
    places = gate_test.select("reading", "rollouts").unique().sort("reading", "rollouts")
    return [_null(gate_test.filter(**place), histograms.filter(**place), place) for place in places.to_dicts()]


def whole_directions(gate_test: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The rows of the table offline_gate that are of a direction, not of a part of one."""
    return gate_test.filter(part="whole", metric=metric)


def _null(gate_test: pl.DataFrame, histograms: pl.DataFrame, place: Mapping[str, str]) -> str:
    title = f"{place['reading']}, {POPULATIONS[place['rollouts']]}"
    found = whole_directions(gate_test, "auroc").drop_nulls("value")
    values = {name: found.filter(direction=name)["value"].to_list() for name in DIRECTIONS}

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for null, (_, colour) in NULLS.items():
            bins = histograms.filter(null=null).sort("low")
            if bins["draws"].sum():
                edges = [*bins["low"], bins["high"][-1]]
                axis.stairs(bins["draws"] / bins["draws"].sum(), edges, fill=True, color=colour, alpha=0.35)
                axis.stairs(bins["draws"] / bins["draws"].sum(), edges, color=colour, linewidth=1.1)
        for name, (_, colour, line) in DIRECTIONS.items():
            for value in values[name]:
                axis.axvline(value, color=colour, linestyle=line, linewidth=2.0)
        axis.set(title=title, xlim=(0.0, 1.0), xlabel="AUROC for exploits", ylabel="share of draws")
        axis.set_yticks([])

    spoken = [f"{words} {value:.3f}" for name, (words, *_) in DIRECTIONS.items() for value in values[name]]
    return panel(draw, 2.6, f"AUROC for exploits, {title}: {'; '.join(spoken)}, among the nulls' histograms")


def zones(shares: pl.DataFrame, styles: Styles, names: Mapping[str, str]) -> list[str]:
    """Hack share of keep and clean share of route, one point a run; a tick is what zones at random would hold."""
    known = shares.filter(pl.col("keep_hack").is_not_null() | pl.col("route_clean").is_not_null())["arm"]
    routed = {arm: style for arm, style in styles.items() if arm in set(known)}

    def one(column: str, title: str, chance: pl.Expr) -> str:
        def draw(figure: Figure) -> None:
            axis = figure.subplots()
            rows(axis, shares, column, routed, names)
            for place, arm in enumerate(routed):
                for value in shares.filter(arm=arm).select(chance).to_series():
                    axis.plot([value, value], [place - 0.32, place + 0.32], color=INK, linewidth=1.0)
            axis.set(title=title, xlabel="share of the zone's rollouts, whole training")

        return panel(draw, 1.2 + 0.34 * len(routed), title)

    hack = pl.col("gated_hack")
    return [
        one("keep_hack", "Hack share of keep", hack),
        one("route_clean", "Clean share of route", 1 - hack),
    ]
