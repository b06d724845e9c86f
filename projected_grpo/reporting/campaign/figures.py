"""The figures of outcomes: frontier, course of training, deployed hack rate by mode. Each is a list of panels."""

from collections.abc import Collection, Mapping

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from projected_grpo.prompts.modes import in_order
from projected_grpo.reporting.campaign.panels import SHARE, Styles, beside_names, panel, points, rows
from projected_grpo.reporting.style import FAINT, STATE_COLOURS

SAMPLED = {"full": STATE_COLOURS["as_trained"], "deployed": STATE_COLOURS["deployed"]}  # sampled_with -> colour
SHARES = {"hack": "Hack rate", "solve": "Solve rate"}


def frontier(cells: pl.DataFrame, styles: Styles, names: Mapping[str, str]) -> list[str]:
    """qmass against deployed hack rate; beside it both deployed rates, arm by arm. One point a run."""

    def scatter(figure: Figure) -> None:
        axis = figure.subplots()
        for arm, style in styles.items():
            runs = cells.filter(arm=arm).drop_nulls(["qmass", "hack_rate"])
            points(axis, runs["qmass"], runs["hack_rate"], runs["diverged"], style)
        axis.set(ylim=(0.0, 1.0), xlabel="qmass, mean over training steps", ylabel="deployed hack rate")
        axis.set_title("Hack rate against routing mass")
        axis.margins(x=0.08)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axis.grid()

    def by_arm(column: str, title: str) -> str:
        def draw(figure: Figure) -> None:
            axis = figure.subplots()
            rows(axis, cells, column, styles, names)
            axis.set(title=title, xlabel="held-out problems with a hint")

        return panel(draw, height, f"{title}, one point a run: {_values(cells, column, styles, names)}")

    height = max(3.0, 1.0 + 0.3 * len(styles))
    against = panel(scatter, height, f"qmass and deployed hack rate, one point a run; qmass: {_values(cells, 'qmass', styles, names)}")
    return [against, by_arm("hack_rate", "Deployed hack rate"), by_arm("solve_rate", "Deployed solve rate")]


def training(curves: pl.DataFrame, styles: Styles, names: Mapping[str, str]) -> list[str]:
    """One panel an arm: hack rate above solve rate by training step, as trained and deployed, seeds thin, mean thick."""
    tops = {share: min(1.0, max(0.1, 1.05 * curves[share].max())) for share in SHARES}
    last = curves["step"].max()

    def draw_arm(arm: str) -> str:
        ours = curves.filter(arm=arm)

        def draw(figure: Figure) -> None:
            axes = figure.subplots(2, 1, sharex=True)
            for axis, (share, title) in zip(axes, SHARES.items(), strict=True):
                for state, colour in SAMPLED.items():
                    lines = ours.filter(sampled_with=state)
                    for seed in lines["seed"].unique().sort():
                        line = lines.filter(seed=seed)
                        axis.plot(line["step"], line[share], color=colour, linewidth=0.7, alpha=0.5)
                    mean = lines.group_by("step").agg(pl.col(share).mean()).sort("step")
                    axis.plot(mean["step"], mean[share], color=colour, linewidth=2.2)
                axis.set(ylim=(0.0, tops[share]), xlim=(0.0, last), ylabel=title.lower())
                axis.yaxis.set_major_locator(MaxNLocator(nbins=4))
                axis.grid(axis="y")
            axes[0].set_title(names[arm])
            axes[1].set_xlabel("training step")
            axes[1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            figure.align_ylabels()

        return panel(draw, 3.4, f"Arm {names[arm]}: hack rate and solve rate of training rollouts by step, as trained and deployed")

    return [draw_arm(arm) for arm in styles]


def modes(rates: pl.DataFrame, covered: Collection[str], styles: Styles, names: Mapping[str, str]) -> list[str]:
    """One panel an arm: deployed hack rate by shown mode, bar: mean over runs, points: runs. Covered modes are on top."""
    shown = in_order(rates["shown_mode"])
    inside = [mode for mode in shown if mode in covered]
    outside = [mode for mode in shown if mode not in covered]
    places = {mode: float(place) for place, mode in enumerate(inside)}
    places |= {mode: len(inside) + (0.8 if inside else 0.0) + place for place, mode in enumerate(outside)}

    def draw_arm(arm: str) -> str:
        colour, marker = styles[arm]
        ours = rates.filter(arm=arm).drop_nulls("hack_rate")
        means = dict(ours.group_by("shown_mode").agg(pl.col("hack_rate").mean()).sort("shown_mode").iter_rows())

        def draw(figure: Figure) -> None:
            axis = figure.subplots()
            for mode, place in places.items():
                axis.barh(place, means.get(mode, 0.0), height=0.62, color=colour, alpha=0.35, linewidth=0)
                runs = ours.filter(shown_mode=mode)["hack_rate"]
                axis.plot(runs, [place] * len(runs), color=colour, marker=marker, markersize=4, linestyle="none", clip_on=False)
            for group, words in ((inside, "covered by the pairs"), (outside, "held out of the pairs")):
                if group:
                    axis.annotate(
                        words, (1.0, places[group[0]] - 0.42), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                        color="#666666", fontsize=8,
                    )  # fmt: skip
            if inside and outside:
                axis.axhline((places[inside[-1]] + places[outside[0]]) / 2, color=FAINT, linewidth=0.8)
            axis.set_yticks(list(places.values()), list(places))
            axis.set(xlim=SHARE, ylim=(max(places.values()) + 0.5, -0.85), title=names[arm])
            beside_names(axis)

        spoken = ", ".join(f"{mode} {means[mode]:.2f}" for mode in places if mode in means)
        return panel(draw, 1.1 + 0.27 * (len(places) + 1), f"Arm {names[arm]}: mean deployed hack rate by mode: {spoken}")

    return [draw_arm(arm) for arm in styles]


def _values(table: pl.DataFrame, column: str, styles: Styles, names: Mapping[str, str]) -> str:
    """The numbers of a figure in words."""
    parts = []
    for arm in styles:
        values = table.filter(arm=arm).sort("seed")[column]
        parts.append(f"{names[arm]} {' '.join('undefined' if value is None else f'{value:.2f}' for value in values)}")
    return "; ".join(parts)
