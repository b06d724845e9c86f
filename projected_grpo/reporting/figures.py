"""The figures, each as the text of an SVG. Equal inputs give equal bytes: no date, and fixed element names."""

from collections.abc import Iterable, Sequence

import matplotlib
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from projected_grpo.analysis.rates import Cell, Rate, find
from projected_grpo.core.tables import DATA, STATES
from projected_grpo.reporting.statements import DATA_NAMES
from projected_grpo.reporting.style import (
    ARM_COLOURS,
    FAINT,
    INK,
    LABEL_COLOURS,
    STATE_COLOURS,
    STATE_MARKERS,
    STYLE,
    ZONE_COLOURS,
    canvas,
    key,
    label_ends,
    look,
    state_key,
    svg,
)


def states_figure(cells: Sequence[Cell]) -> str:
    """Hack rate and solve rate with intervals for each state, on held-out and on train-IID problems."""
    with matplotlib.rc_context(STYLE):
        figure = canvas(7.4, 2.7)
        titles = {"hack": "Hack rate, with hint", "solve": "Solve rate, with hint"}
        titles["solve_unhinted"] = "Solve rate, no hint"
        panels = figure.subplots(1, len(titles), sharey=True)
        shown = [data for data in DATA if any(cell.data == data for cell in cells)]
        for axis, (name, title) in zip(panels, titles.items()):
            for place, data in enumerate(shown):
                for shift, state in zip((-0.3, 0.0, 0.3), STATES):
                    _point(axis, place + shift, getattr(find(cells, data, state), name), state)
            axis.set(title=title, xlim=(-0.55, len(shown) - 0.45))
            axis.set_xticks(range(len(shown)), [DATA_NAMES[data].replace(", ", ",\n") for data in shown])
            axis.tick_params(axis="x", length=0)
            axis.grid(axis="y")
        panels[0].set_ylim(bottom=0.0)
        panels[0].set_ylabel("share of samples")
        state_key(figure, STATES)
        return svg(figure)


def modes_figure(trained: Cell, deployed: Cell, covered: Iterable[str]) -> str:
    """Hack rate by mode, as trained and deployed; modes that the pairs cover above those held out of the pairs."""
    known = set(covered)
    inside = [mode for mode in deployed.hack_by_mode if mode in known]
    outside = [mode for mode in deployed.hack_by_mode if mode not in known]
    gap = 0.9 if inside and outside else 0.0
    places = {mode: float(i) for i, mode in enumerate(inside)}
    places |= {mode: len(inside) + gap + i for i, mode in enumerate(outside)}
    with matplotlib.rc_context(STYLE):
        figure = canvas(6.6, 1.2 + 0.36 * (len(places) + gap))
        axis = figure.subplots()
        for mode, place in places.items():
            for shift, cell in ((-0.14, trained), (0.14, deployed)):
                _point(axis, place + shift, cell.hack_by_mode[mode], cell.state, horizontal=True)
        for modes, text in ((inside, "covered by the pairs"), (outside, "held out of the pairs")):
            if modes:
                first, last = places[modes[0]] - 0.45, places[modes[-1]] + 0.45
                axis.axhspan(first, last, color="#F5F5F2", linewidth=0, zorder=0)
                axis.annotate(
                    text, (1.0, (first + last) / 2), xycoords=("axes fraction", "data"), xytext=(8, 0),
                    textcoords="offset points", va="center", color=FAINT,
                )
        axis.set_yticks(list(places.values()), list(places))
        axis.tick_params(axis="y", length=0)
        axis.set(xlim=(0.0, 1.0), xlabel="hack rate on held-out problems with the mode's hint")
        axis.invert_yaxis()
        axis.grid(axis="x")
        state_key(figure, ("as_trained", "deployed"))
        return svg(figure)


def training_figure(curve: pl.DataFrame) -> str:
    """The course of training by step: `curve` is summary.training_curve."""
    with matplotlib.rc_context(STYLE):
        figure = canvas(7.6, 4.9)
        panels = list(figure.subplots(3, 2, sharex=True).flat)
        panels[0].plot(curve["step"], curve["reward"], color=INK)
        panels[0].set(title="Mean reward", ylim=(0.0, None))
        panels[1].set(title="Shares of rollouts", ylim=(0.0, 1.0))
        shares = {name: (name, colour) for name, colour in LABEL_COLOURS.items()} | {"compiled_share": ("compiles", FAINT)}
        _lines(panels[1], curve, shares)
        panels[2].set(title="qmass", ylim=(0.0, 1.0))
        _lines(panels[2], curve, {"qmass": ("", INK)})
        _zones(panels[3], curve)
        _lines(panels[4], curve, {f"rho_{zone}": (zone, colour) for zone, colour in ZONE_COLOURS.items()})
        panels[4].axhline(1.0, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        panels[4].set(title="Mean importance ratio rho, by zone")
        panels[5].plot(curve["step"], curve["kl"], color=INK)
        panels[5].set(title="KL to the base model, nats a token", ylim=(0.0, None))
        for axis in panels:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axis.margins(x=0)
            axis.grid(axis="y")
        for axis in panels[-2:]:
            axis.set_xlabel("training step")
        return svg(figure)


def frontier_figure(points: pl.DataFrame) -> str:
    """qmass against deployed hack rate, one point a run. Columns: group, label, qmass, hack_rate, its low and high.

    Raises KeyError for a group without a colour.
    """
    with matplotlib.rc_context(STYLE):
        figure = canvas(5.6, 3.6)
        axis = figure.subplots()
        drawn = points.drop_nulls(["qmass", "hack_rate"])
        for row in drawn.iter_rows(named=True):
            ends = [[row["hack_rate"] - row["hack_rate_low"]], [row["hack_rate_high"] - row["hack_rate"]]]
            colour, marker = look(row["group"])
            axis.errorbar(row["qmass"], row["hack_rate"], ends, fmt=marker, color=colour, elinewidth=1.0)
            axis.annotate(
                row["label"], (row["qmass"], row["hack_rate"]), xytext=(6, 4), textcoords="offset points",
                color=colour, fontsize=7.5,
            )
        key(figure, [(group, *look(group)) for group in drawn["group"].unique(maintain_order=True)])
        axis.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0), xlabel="qmass, mean over training steps")
        axis.set_ylabel("deployed hack rate, held-out problems")
        axis.grid()
        return svg(figure)


def diagnostics_figure(diagnostics: pl.DataFrame) -> str:
    """AUROC of the routing score for exploits, by window of training, beside the distribution over Haar draws.

    Directions at other readings than the one that the gate scores, which has the live score's rows, are left out.
    """
    at_gate = diagnostics.join(diagnostics.filter(direction="live").select("reading").unique(), on="reading", how="semi")
    titles = {"all": "All gated rollouts", "positive_advantage": "Rollouts of positive advantage"}
    with matplotlib.rc_context(STYLE):
        figure = canvas(7.4, 2.8)
        panels = figure.subplots(1, 2, sharey=True)
        for axis, (kind, title) in zip(panels, titles.items()):
            ours = at_gate.filter(rollouts=kind).drop_nulls("auroc")
            ours = ours.with_columns(middle=(pl.col("first_step") + pl.col("last_step")) / 2)
            _haar_band(axis, ours.filter(direction="haar"))
            for name, colour in (("v_act", ARM_COLOURS["route v_act"]), ("live", INK)):
                line = ours.filter(direction=name)
                axis.plot(line["middle"], line["auroc"], color=colour, marker="o", markersize=3.5)
            axis.axhline(0.5, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
            axis.set(title=title, xlabel="training step, middle of the window", ylim=(0.0, 1.0))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axis.grid(axis="y")
        panels[0].set_ylabel("AUROC for exploits")
        haar, v_act = ARM_COLOURS["route haar"], ARM_COLOURS["route v_act"]
        key(figure, [("live score", INK, "o"), ("v_act", v_act, "o"), ("Haar draws: median, 5% to 95%", haar, "_")])
        return svg(figure)


def _haar_band(axis: Axes, draws: pl.DataFrame) -> None:
    band = draws.group_by("middle").agg(
        low=pl.col("auroc").quantile(0.05, "linear"),
        median=pl.col("auroc").median(),
        high=pl.col("auroc").quantile(0.95, "linear"),
    )
    band = band.sort("middle")
    colour = ARM_COLOURS["route haar"]
    axis.fill_between(band["middle"], band["low"], band["high"], color=colour, alpha=0.25, linewidth=0)
    axis.plot(band["middle"], band["median"], color=colour, linewidth=1.1)


def _zones(axis: Axes, curve: pl.DataFrame) -> None:
    """Zone shares stacked from keep at the bottom to route at the top."""
    shares = [curve[f"{zone}_share"].fill_null(0.0) for zone in ZONE_COLOURS]
    axis.stackplot(curve["step"], *shares, colors=list(ZONE_COLOURS.values()), linewidth=0)
    axis.set(title="Zone shares of gated rollouts", ylim=(0.0, 1.0))
    bottom = 0.0
    labels = []
    for (zone, colour), share in zip(ZONE_COLOURS.items(), shares):
        if share[-1]:
            labels.append((bottom + share[-1] / 2, zone, colour))
        bottom += share[-1]
    label_ends(axis, labels)


def _lines(axis: Axes, curve: pl.DataFrame, columns: dict[str, tuple[str, str]]) -> None:
    """Columns of `curve` by step, each labelled at its last value. columns: name -> (label, colour)."""
    labels = []
    for name, (label, colour) in columns.items():
        known = curve.select("step", name).drop_nulls()
        axis.plot(curve["step"], curve[name].cast(pl.Float64).to_numpy(), color=colour)
        if label and known.height:
            labels.append((known[name][-1], label, colour))
    if all(curve[name].null_count() == curve.height for name in columns):
        axis.text(0.5, 0.5, "undefined in every step of this arm", transform=axis.transAxes, ha="center", color=FAINT)
    label_ends(axis, labels)


def _point(axis: Axes, place: float, rate: Rate, state: str, horizontal: bool = False) -> None:
    """A rate with its interval and its value; nothing where the rate is undefined."""
    if rate.value is None:
        return
    ends = [[rate.value - rate.low], [rate.high - rate.value]]
    x, y = (rate.value, place) if horizontal else (place, rate.value)
    drawn = {"fmt": STATE_MARKERS[state], "color": STATE_COLOURS[state], "elinewidth": 1.3, "clip_on": False}
    axis.errorbar(x, y, **{"xerr" if horizontal else "yerr": ends}, **drawn)
    if not horizontal:
        axis.annotate(
            f"{rate.value:.2f}".removeprefix("0"), (place, rate.high), xytext=(0, 3), textcoords="offset points", ha="center",
            color=STATE_COLOURS[state], fontsize=7,
        )
