"""Small figures that a page lays out side by side, so that they fit a phone's width, and the keys above them."""

import re
from collections.abc import Callable, Iterable, Mapping

import matplotlib
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline

from projected_grpo.reporting.page import escape
from projected_grpo.reporting.style import ARM_COLOURS, ARM_MARKERS, FAINT, STYLE, canvas, svg

WIDTH = 4.0  # inches
STYLES = {  # arm -> colour and marker; an arm of another name takes the next of SPARE
    "none": (ARM_COLOURS["none"], ARM_MARKERS["none"]),
    "absorb": (ARM_COLOURS["absorb"], ARM_MARKERS["absorb"]),
    "v_act": (ARM_COLOURS["route v_act"], ARM_MARKERS["route v_act"]),
    "haar": (ARM_COLOURS["route haar"], ARM_MARKERS["route haar"]),
    "random": ("#117733", "v"),
    "v_act_wide": (ARM_COLOURS["route v_act"], "p"),
    "haar_wide": (ARM_COLOURS["route haar"], "d"),
    "random_wide": ("#117733", "X"),
    "labelled": (ARM_COLOURS["labelled (uses ground truth)"], "*"),
    "oracle": (ARM_COLOURS["route oracle (uses ground truth)"], "P"),
}
SPARE = [("#56B4E9", "<"), ("#D55E00", ">"), ("#44AA99", "h"), ("#0072B2", "p"), ("#AA4499", "D"), ("#661100", "^"), ("#332288", "8"), ("#222222", "d")]
LINES = {"-": "none", "--": "4 2", ":": "1.5 1.5"}  # line of a key -> dashes; other markers are points
SHARE = (-0.04, 1.0)  # limits of an axis of shares whose rows have names
SIZE = 11  # of a marker in a key, in its view box of 16
Styles = Mapping[str, tuple[str, str]]


def arm_styles(arms: Iterable[str]) -> Styles:
    """Arm -> colour and marker, in the order given. Arms beyond the spare styles take these again."""
    known = list(arms)
    others = iter(SPARE * len(known))
    return {arm: STYLES[arm] if arm in STYLES else next(others) for arm in known}


def panel(draw: Callable[[Figure], None], height: float, description: str) -> str:
    """The <svg> of a figure that `draw(figure)` fills, with a description for those who do not see it."""
    with matplotlib.rc_context(STYLE | {"font.size": 9.5, "axes.titlesize": 10}):
        figure = canvas(WIDTH, height)
        draw(figure)
        text = svg(figure)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # a page holds many figures, whose groups have the same names
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)


def grid(panels: Iterable[str]) -> str:
    return '<div class="panels">' + "".join(f'<div class="panel">{text}</div>' for text in panels) + "</div>"


def legend(entries: Iterable[tuple[str, str, str]]) -> str:
    """Names with their colour and marker or line, as text that wraps."""
    return '<ul class="legend">' + "".join(f"<li>{_swatch(c, m)}{escape(name)}</li>" for name, c, m in entries) + "</ul>"


def arm_legend(styles: Styles, names: Mapping[str, str]) -> str:
    return legend((names[arm], colour, marker) for arm, (colour, marker) in styles.items())


def points(axis: Axes, x: Iterable[float], y: Iterable[float], diverged: Iterable[bool], style: tuple[str, str]) -> None:
    """One point a run, hollow where it diverged."""
    for at, height, hollow in zip(x, y, diverged, strict=True):
        axis.plot(
            [at], [height], color=style[0], marker=style[1], markerfacecolor="none" if hollow else style[0], markersize=7,
            linestyle="none", clip_on=False,
        )  # fmt: skip


def rows(axis: Axes, values: pl.DataFrame, column: str, styles: Styles, names: Mapping[str, str]) -> None:
    """One row an arm, one point a run, set below each other. Nulls are left out. values: arm, seed, diverged, `column`."""
    for place, (arm, style) in enumerate(styles.items()):
        known = values.filter(arm=arm).drop_nulls(column).sort("seed")
        points(axis, known[column], [place + shift for shift in _spread(known.height)], known["diverged"], style)
        if known.is_empty():
            axis.annotate("undefined", (0.02, place), color=FAINT, va="center", fontsize=8)
    axis.set_yticks(range(len(styles)), [wrapped(names[arm]) for arm in styles])
    axis.set(xlim=SHARE, ylim=(len(styles) - 0.5, -0.5))
    beside_names(axis)


def beside_names(axis: Axes) -> None:
    """An axis of shares whose rows have names: points at 0 stay clear of these."""
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")


def wrapped(name: str) -> str:
    return name.replace(" (", "\n(")


def _spread(count: int) -> list[float]:
    return [0.34 * (index / (count - 1) - 0.5) if count > 1 else 0.0 for index in range(count)]


def _swatch(colour: str, marker: str) -> str:
    if marker in LINES:
        shape = f'<path d="M-8 0H8" fill="none" stroke-width="2.5" stroke-dasharray="{LINES[marker]}"/>'
    else:
        style = MarkerStyle(marker)
        shape = f'<path d="{_outline(style.get_path().transformed(style.get_transform()))}" stroke-width="0"/>'
    return f'<svg class="swatch" viewBox="-8 -8 16 16" aria-hidden="true" fill="{colour}" stroke="{colour}">{shape}</svg>'


def _outline(path: Outline) -> str:
    letters = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C", Outline.CLOSEPOLY: "Z"}
    parts = []
    for points, code in path.iter_segments(simplify=False):
        numbers = "" if code == Outline.CLOSEPOLY else " ".join(f"{x:.2f}" for x in points * ([SIZE, -SIZE] * (len(points) // 2)))
        parts.append(letters[code] + numbers)
    return "".join(parts)
