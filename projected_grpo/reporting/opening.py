"""The opening of a run's page: one sentence of what the run found, and a picture of its rates by state."""

from collections.abc import Sequence

from projected_grpo.analysis.rates import Cell, Rate, find
from projected_grpo.reporting.page import escape
from projected_grpo.reporting.statements import STATE_NAMES
from projected_grpo.reporting.style import STATE_COLOURS

RATES = {"hack": "hack rate", "solve": "solve rate"}
LABELS, PANEL, GAP = 72, 104, 42  # widths of the names, of a panel from 0 to 1, and of the space after it for the values
HEAD, ROW, BAR = 20, 22, 11  # heights of the panels' names, of a row and of its bar


def sentence(cells: Sequence[Cell], one_block: bool) -> str:
    """What the run found on held-out problems with a hint, in at most 30 words."""
    base, trained, deployed = (find(cells, "heldout", state) for state in STATE_NAMES)
    unjudged = [STATE_NAMES[cell.state] for cell in (base, trained, deployed) if cell.hack.value is None]
    if unjudged:
        return f"Of held-out problems with a hint no sample was judged for the policy {' and '.join(unjudged)}, so those rates are undefined."
    if one_block:
        return (
            f"On held-out problems with a hint, the policy, trained and deployed as one block, hacks {deployed.hack.value:.0%} of samples and "
            f"solves {deployed.solve.value:.0%}; the base model hacks {base.hack.value:.0%}."
        )
    return (
        f"On held-out problems with a hint, the deployed policy hacks {deployed.hack.value:.0%} of samples and solves {deployed.solve.value:.0%}; "
        f"it hacks {trained.hack.value:.0%} as trained, and the base model hacks {base.hack.value:.0%}."
    )


def picture(cells: Sequence[Cell], one_block: bool) -> str:
    """The <svg> of both rates by state on held-out problems with a hint: a bar, its interval and its value. One block has two states."""
    names = {"base": "base", "deployed": "trained"} if one_block else STATE_NAMES
    rows = [find(cells, "heldout", state) for state in names]
    parts, spoken = [], []
    for place, (rate, title) in enumerate(RATES.items()):
        left = LABELS + place * (PANEL + GAP)
        parts.append(f'<text x="{left}" y="12" font-weight="bold">{title}</text>')
        for row, cell in enumerate(rows):
            parts.append(_bar(left, HEAD + ROW * row, getattr(cell, rate), STATE_COLOURS[cell.state]))
            spoken.append(f"{title} {names[cell.state]} {_value(getattr(cell, rate))}")
    for row, cell in enumerate(rows):
        parts.append(f'<text x="{LABELS - 8}" y="{HEAD + ROW * row + 14}" text-anchor="end" fill="{STATE_COLOURS[cell.state]}">{names[cell.state]}</text>')
    width, height = LABELS + len(RATES) * (PANEL + GAP), HEAD + ROW * len(rows) + 2
    label = escape("Held-out problems with a hint: " + "; ".join(spoken))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="opening" viewBox="0 0 {width} {height}" role="img" aria-label="{label}" '
        f'font-family="sans-serif" font-size="12" fill="#222">{"".join(parts)}</svg>'
    )


def _bar(left: int, top: int, rate: Rate, colour: str) -> str:
    """A rate from 0 to 1 on the width of a panel; its value alone where it is undefined."""
    middle = top + ROW / 2
    axis = f'<path d="M{left} {top}v{ROW}" stroke="#8A8A8A"/>'
    if rate.value is None:
        return f'{axis}<text x="{left + 6}" y="{top + 15}">{_value(rate)}</text>'
    low, value, high = (left + PANEL * share for share in (rate.low, rate.value, rate.high))
    return (
        f'{axis}<rect x="{left}" y="{middle - BAR / 2}" width="{value - left:.1f}" height="{BAR}" fill="{colour}" fill-opacity="0.6"/>'
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="{colour}" stroke-width="2"/>'
        f'<text x="{high + 5:.1f}" y="{top + 15}">{_value(rate)}</text>'
    )


def _value(rate: Rate) -> str:
    return "undefined" if rate.value is None else f"{rate.value:.2f}"
