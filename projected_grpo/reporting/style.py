"""The look of the figures: what a colour means, the labels and keys, and the SVG text that a figure becomes.

A colour means one thing in every figure: the states, the zones, the directions and the monitor's labels each have
their own, from palettes that remain apart under colour blindness. Text stays text, so the page's font applies to it.
"""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from projected_grpo.reporting.statements import STATE_NAMES

STATE_COLOURS = {"base": "#7A7A7A", "as_trained": "#D55E00", "deployed": "#0072B2"}
STATE_MARKERS = {"base": "s", "as_trained": "o", "deployed": "D"}
ZONE_COLOURS = {"keep": "#009E73", "absorb": "#CFCFCF", "route": "#CC79A7"}
LABEL_COLOURS = {"hack": "#332288", "solve": "#44AA99"}
ARM_COLOURS = {"none": "#7A7A7A", "absorb": "#E69F00", "route v_act": "#882255", "route haar": "#999933"}
ARM_MARKERS = {"none": "s", "absorb": "^", "route v_act": "o", "route haar": "D"}
ARM_COLOURS |= {"penalty probe": "#117733", "penalty judge": "#56B4E9", "penalty (uses ground truth)": "#CC6677"}
ARM_MARKERS |= {"penalty probe": "v", "penalty judge": "v", "penalty (uses ground truth)": "v"}
ARM_COLOURS |= {"screening probe": "#117733", "screening judge": "#56B4E9", "screening (uses ground truth)": "#CC6677"}
ARM_MARKERS |= {"screening probe": "X", "screening judge": "X", "screening (uses ground truth)": "X"}
ARM_COLOURS |= {"labelled (uses ground truth)": "#CC6677", "route oracle (uses ground truth)": "#CC6677"}
ARM_MARKERS |= {"labelled (uses ground truth)": "*", "route oracle (uses ground truth)": "P"}
ARM_COLOURS |= {"route shuffled": "#999933", "route flipped": "#882255", "route irrelevant": "#44AA99"}
ARM_MARKERS |= {"route shuffled": "d", "route flipped": "<", "route irrelevant": "h"}
ARM_COLOURS |= {"route self_generated": "#332288", "inoculated": "#D55E00"}
ARM_MARKERS |= {"route self_generated": "8", "inoculated": "X"}
BY_DIRECTION = {"permuted_step": "p", "permuted_sign": "H", "permuted_prompt_sign": ">", "labelled_masses": "s", "discount": "v"}
DIRECTION_COLOURS = {
    "v_act": "#0072B2", "haar": "#999933", "shuffled": "#E69F00", "flipped": "#882255", "irrelevant": "#44AA99",
    "self_generated": "#332288", "oracle": "#CC6677",
}  # fmt: skip
for policy, marker in BY_DIRECTION.items():
    for direction, colour in DIRECTION_COLOURS.items():
        if (policy, direction) == ("discount", "oracle"):  # which settings refuse
            continue
        told = " (uses ground truth)" if policy == "labelled_masses" or direction == "oracle" else ""
        ARM_COLOURS[f"{policy} {direction}{told}"], ARM_MARKERS[f"{policy} {direction}{told}"] = colour, marker
OWN_DIRECTION = ("#0072B2", "P")  # of all arms that a table in directions/ routes
KEY_COLUMNS = 4  # entries of a key beside each other
INK, FAINT = "#222222", "#8A8A8A"
STYLE = {
    "svg.hashsalt": "projected_grpo",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.5,
}


def label_ends(axis: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Labels right of the axis at their heights, pushed apart where they would overlap."""
    low, high = axis.get_ylim()
    height = float("-inf")
    for value, text, colour in sorted(labels):
        height = max((value - low) / (high - low), height + 0.13)
        dark = "#6E6E6E" if colour == ZONE_COLOURS["absorb"] else colour
        axis.annotate(
            text, (1.0, height), xycoords="axes fraction", xytext=(4, 0), textcoords="offset points",
            va="center", color=dark, fontsize=8.5,
        )


def state_key(figure: Figure, states: Sequence[str]) -> None:
    key(figure, [(STATE_NAMES[state], STATE_COLOURS[state], STATE_MARKERS[state]) for state in states])


def key(figure: Figure, entries: Sequence[tuple[str, str, str]]) -> None:
    """Lines above the panels that name colours and markers."""
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=label)
        for label, colour, marker in entries
    ]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=min(len(handles), KEY_COLUMNS), frameon=False, handletextpad=0.2,
        columnspacing=1.4, labelcolor="linecolor",
    )


def canvas(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure) -> str:
    """The <svg> element, which is a file of its own and a part of a page alike."""
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=no_metadata, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def look(group: str) -> tuple[str, str]:
    """Colour and marker of an arm. Raises KeyError for one that has none."""
    return OWN_DIRECTION if " directions/" in group else (ARM_COLOURS[group], ARM_MARKERS[group])
