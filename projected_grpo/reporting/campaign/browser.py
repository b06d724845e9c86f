"""The rollout browser: the sampled rollouts as columns, each text once, compressed into the page, and its controls.

Which lines attempt a loophole is decided here, from the syntax tree, where answers are programs of the environment `code`;
browser.js shows what it is given and decides nothing.
"""

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from projected_grpo.core.tables import ZONE_NAMES
from projected_grpo.prompts.modes import GT_ONLY, in_order, words_of
from projected_grpo.reporting.campaign.loopholes import loophole_lines
from projected_grpo.reporting.campaign.runs import NOT_GATED, NOT_JUDGED
from projected_grpo.reporting.page import escape

SCRIPT = Path(__file__).with_name("browser.js").read_text()
LABELS = ("exploited", "correct", "incorrect", NOT_JUDGED)
ZONES = (*ZONE_NAMES, NOT_GATED)
CHOICES = {"arm": "arm", "zone": "zone", "label": "label", "mode": "mode shown"}  # column of the filter -> its name
DIGITS = 3


def payload(shown: pl.DataFrame, problems: pl.DataFrame, names: Mapping[str, str]) -> dict:
    """What browser.js reads. A column of `codes` holds places in the list of `names` that has its name."""
    arms = shown["arm"].unique().sort().to_list()
    statements = dict(problems.select("problem_id", "statement").iter_rows())
    words = {row["problem_id"]: words_of(row) if row["words"] else None for row in problems.to_dicts()}
    tasks = shown["problem_id"].unique().sort().to_list()
    keys = [(text, program, words[task]) for text, program, task in shown.select("text", "program", "problem_id").iter_rows()]
    marks = {key: loophole_lines(*key) if key[2] else {} for key in dict.fromkeys(keys)}
    places = {key: place for place, key in enumerate(marks)}
    marked = {mode for lines in marks.values() for modes in lines.values() for mode in modes}
    modes = [*in_order({*shown["shown_mode"], *marked}), GT_ONLY]
    codes = {"arm": _codes(shown["arm"], arms), "zone": _codes(shown["zone"], ZONES), "label": _codes(shown["label"], LABELS)}
    codes |= {"mode": _codes(shown["shown_mode"], modes), "task": _codes(shown["problem_id"], tasks), "text": [places[key] for key in keys]}
    return {
        "names": {"arm": [names[arm] for arm in arms], "zone": ZONES, "label": LABELS, "mode": modes},
        "tasks": [statements[task] for task in tasks],
        "texts": [text for text, _, _ in marks],
        "marks": [[[line, [modes.index(mode) for mode in found]] for line, found in lines.items()] for lines in marks.values()],
        "codes": codes,
        "seed": shown["seed"].to_list(),
        "step": shown["step"].to_list(),
        "id": shown["rollout_id"].to_list(),
        "sampled_with": shown["sampled_with"].to_list(),
        "numbers": {name: _rounded(shown[name]) for name in ("score", "t_low", "t_high", "reward")},
    }


def encode(data: Mapping) -> str:
    """JSON, gzip without a timestamp, base64."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def browser(shown: pl.DataFrame, problems: pl.DataFrame, names: Mapping[str, str]) -> str:
    """The controls, the list, the pane for one rollout, and the data."""
    data = payload(shown, problems, names)
    selects = "".join(_select(name, title, data["names"][name]) for name, title in CHOICES.items())
    last = shown["step"].max()
    steps = _step("from-step", "first step", 0, last) + _step("to-step", "last step", last, last)
    return (
        '<form class="controls" aria-label="Filters of the rollouts">'
        f'{selects}{steps}<button type="reset">all rollouts</button></form>'
        '<p class="count"><output id="count" aria-live="polite">The rollouts are being unpacked.</output></p>'
        '<noscript><p class="note">The browser needs JavaScript. Everything above does not.</p></noscript>'
        '<div class="browser"><div id="list" class="list" role="listbox" tabindex="0" aria-label="Rollouts; the arrow keys '
        'choose one"><div id="rows" role="presentation"></div></div>'
        '<article id="rollout" class="card" aria-label="The chosen rollout"></article></div>'
        f'<script type="text/plain" id="rollouts">{encode(data)}</script>'
    )


def _select(name: str, title: str, options: Sequence[str]) -> str:
    entries = "".join(f'<option value="{place}">{escape(option)}</option>' for place, option in enumerate(options))
    return f'<label>{escape(title)}<select data-column="{name}"><option value="">all</option>{entries}</select></label>'


def _step(name: str, title: str, value: int, last: int) -> str:
    return f'<label>{escape(title)}<input id="{name}" type="number" inputmode="numeric" min="0" max="{last}" value="{value}"></label>'


def _codes(column: pl.Series, names: Sequence[str]) -> list[int]:
    return column.replace_strict(list(names), list(range(len(names))), return_dtype=pl.Int32).to_list()


def _rounded(column: pl.Series) -> list[float | None]:
    """A cut that no score reaches is null."""
    return [None if value is None or math.isinf(value) else round(value, DIGITS) for value in column.cast(pl.Float64)]
