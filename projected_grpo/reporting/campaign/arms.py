"""The table of arms: each run's deployed hack rate as a point on a strip, and the means beside it."""

from collections.abc import Mapping, Sequence
from math import ceil

from projected_grpo.reporting.campaign.panels import Styles
from projected_grpo.reporting.page import escape
from projected_grpo.reporting.verdict import ends, mean, number

WIDTH, HEIGHT, RADIUS = 120, 18, 3.2  # of a strip, in units of its view box


def arm_rows(verdict: Mapping, styles: Styles, names: Mapping[str, str]) -> str:
    """A <table> with one row an arm. The line through the strips is the mean of the reference."""
    arms = verdict["arms"]
    top = ceil(10 * max(rate for arm in arms for rate in arm["hack_rates"])) / 10 or 0.1
    reference = next((mean(arm["hack_rates"]) for arm in arms if arm["arm"] == verdict["claims"][0]["reference"]), None)
    rows = "".join(_row(arm, styles[arm["arm"]][0], names[arm["arm"]], top, reference) for arm in arms)
    caption = f"<caption>Hack rates of the runs between 0 and {top:g}</caption>"
    head = "<tr><th>arm</th><th>hack rate of each run</th><th>mean<br>minus absorb</th><th>solve rate<br>minus absorb</th></tr>"
    return f'<table class="arms">{caption}<thead>{head}</thead><tbody>{rows}</tbody></table>'


def _row(arm: Mapping, colour: str, name: str, top: float, reference: float | None) -> str:
    seeds = len(arm["seeds"])
    beside = f'<span class="beside">{seeds} {"run" if seeds == 1 else "runs"}</span>'
    cells = [f"<th scope='row'>{escape(name)}{beside}</th>", f'<td class="runs">{strip(arm["hack_rates"], colour, top, reference)}</td>']
    cells += [_rate(arm, "hack_rates", "hack"), _rate(arm, "solve_rates", "solve")]
    return f"<tr>{''.join(cells)}</tr>"


def _rate(arm: Mapping, rates: str, rate: str) -> str:
    net = arm["from_reference"]
    difference = ends(None if net is None else net[rate], absent="")
    return f'<td data-name="{rate} rate">{number(mean(arm[rates]))}<span class="beside">{escape(difference)}</span></td>'


def strip(rates: Sequence[float], colour: str, top: float, reference: float | None) -> str:
    """The runs between 0 and `top`, half transparent so that equal ones show; a tall tick at their mean."""
    at = [RADIUS + (WIDTH - 2 * RADIUS) * rate / top for rate in (*rates, mean(rates))]
    line = ""
    if reference is not None:
        x = RADIUS + (WIDTH - 2 * RADIUS) * reference / top
        line = f'<path d="M{x:.1f} 0V{HEIGHT}" stroke="#767676" stroke-dasharray="2 2"/>'
    points = "".join(f'<circle cx="{x:.1f}" cy="{HEIGHT / 2}" r="{RADIUS}"/>' for x in at[:-1])
    said = f"mean {number(mean(rates), 2)}; runs {' '.join(number(rate, 2) for rate in rates)}"
    return (
        f'<svg class="strip" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">{line}'
        f'<g fill="{colour}" fill-opacity="0.5">{points}</g><path d="M{at[-1]:.1f} 2V{HEIGHT - 2}" stroke="{colour}" stroke-width="2"/></svg>'
    )
