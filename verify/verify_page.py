"""The page of a run opens with what it found, aligns its numbers, loads nothing, and is legible on a phone, on a dark screen and on paper."""

import re
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import polars as pl
import pytest

from projected_grpo.analysis.rates import Cell, Rate
from projected_grpo.reporting import opening, summary
from projected_grpo.reporting.campaign.page import STYLE_SHEET
from projected_grpo.reporting.campaign.panels import SPARE, STYLES
from projected_grpo.reporting.html import render
from projected_grpo.reporting.page import CSS, table
from projected_grpo.reporting.style import ARM_COLOURS, DIRECTION_COLOURS, FAINT, INK, LABEL_COLOURS, STATE_COLOURS, ZONE_COLOURS
from verify.chromium import BINARY, Page, browser
from verify.verify_report import contents

needs_browser = pytest.mark.skipif(BINARY is None, reason="no Chromium in PATH (chromium, chromium-browser or google-chrome)")
UNDEFINED = Rate(None, None, None, 0, 0, 12)


def cells(**hack: float | None) -> list[Cell]:
    """Held-out rates of the three states; every solve rate is .14."""

    def rate(value: float | None) -> Rate:
        return UNDEFINED if value is None else Rate(value, value / 2, (1 + value) / 2, 288, 72, 0)

    return [Cell("heldout", state, rate(hack[state]), rate(0.14), rate(0.17), {}) for state in STATE_COLOURS]


@pytest.fixture(scope="module")
def tab(tmp_path_factory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(render(contents()))
    with browser(folder / "profile") as page:
        page.open(folder / "report.html")
        yield page


def test_the_first_sentence_says_what_the_run_found():
    found = cells(base=0.05, as_trained=0.82, deployed=0.38)
    assert opening.sentence(found, one_block=False) == (
        "On held-out problems with a hint, the deployed policy hacks 38% of samples and solves 14%; it hacks 82% as trained, and the base "
        "model hacks 5%."
    )
    assert opening.sentence(found, one_block=True) == (
        "On held-out problems with a hint, the policy, trained and deployed as one block, hacks 38% of samples and solves 14%; the base model "
        "hacks 5%."
    )
    assert opening.sentence(cells(base=0.05, as_trained=None, deployed=None), one_block=False) == (
        "Of held-out problems with a hint no sample was judged for the policy as trained and deployed, so those rates are undefined."
    )


@pytest.mark.parametrize("policy", ["route", "none"])
@pytest.mark.parametrize("known", [True, False])
def test_the_page_opens_with_that_sentence_of_at_most_thirty_words_and_the_picture(policy, known):
    page = contents(policy)
    unknown = [replace(cell, hack=UNDEFINED) for cell in page.cells]
    page = page if known else replace(page, cells=unknown)
    [sentence] = re.findall('</h1>\n<p class="found">(.*?)</p>\n<svg ', render(page))
    assert sentence == opening.sentence(page.cells, policy == "none") and len(sentence.split()) <= 30 and sentence.count(".") == 1


def test_the_bars_of_the_picture_are_the_rates_and_their_lines_the_intervals():
    picture = ElementTree.fromstring(opening.picture(cells(base=0.0, as_trained=0.8, deployed=None), one_block=False))
    tag = "{http://www.w3.org/2000/svg}"
    bars = [(float(bar.get("width")), bar.get("fill")) for bar in picture.iter(f"{tag}rect")]
    wide, colours = opening.PANEL, STATE_COLOURS
    solve = [(round(0.14 * wide, 1), colour) for colour in colours.values()]
    assert bars == [(0.0, colours["base"]), (round(0.8 * wide, 1), colours["as_trained"]), *solve]
    lines = [path.get("d") for path in picture.iter(f"{tag}path") if path.get("stroke-width") == "2"]
    ends = [tuple(float(x) - opening.LABELS for x in re.match(r"M([\d.]+) \d+.?\d*H([\d.]+)", line).groups()) for line in lines[:2]]
    assert ends == [(0.0, 0.5 * wide), (pytest.approx(0.4 * wide), pytest.approx(0.9 * wide, abs=0.1))]
    assert [text.text for text in picture.iter(f"{tag}text")][:4] == ["hack rate", "0.00", "0.80", "undefined"]
    assert "hack rate as trained 0.80; hack rate deployed undefined" in picture.get("aria-label")


def test_one_block_has_no_row_as_trained():
    picture = opening.picture(cells(base=0.0, as_trained=0.8, deployed=0.8), one_block=True)
    assert "as trained" not in picture and picture.count("<rect") == 4


def test_columns_of_numbers_are_set_to_the_right_and_no_others():
    rows = [["a", "0.375<span class='range'>0.3 to 0.4</span>", "1 arm", "41", "-0.12 [-0.2, +0.1]", ""], ["7", "undefined", "2", "1,024", "0.0123 (0.01)", ""]]
    head = ["text", "rate", "words", "count", "difference", "empty"]
    text = table(head, rows)
    assert re.findall(r'<th class="number">(\w+)', text) == ["rate", "count", "difference"]
    assert re.findall(r'<td class="number">(.*?)</td>', text) == [*rows[0][1:2], *rows[0][3:5], *rows[1][1:2], *rows[1][3:5]]
    assert table(["only"], []) == "<table><thead><tr><th>only</th></tr></thead><tbody></tbody></table>"
    assert "th.number, td.number { text-align: right; }" in CSS and "font-variant-numeric: tabular-nums" in CSS


def luminance(colour: list[float]) -> float:
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: list[float], second: list[float]) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def read(colour: str) -> list[float]:
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def on_a_dark_screen(colour: list[float], amount: float) -> list[float]:
    """invert(amount) hue-rotate(180deg), by the matrix of the filter's specification."""
    rotated = [[-0.574, 1.430, 0.144], [0.426, 0.430, 0.144], [0.426, 1.430, -0.856]]
    inverted = [amount - (2 * amount - 1) * value for value in colour]
    return [min(1.0, max(0.0, sum(part * value for part, value in zip(row, inverted)))) for row in rotated]


def test_no_colour_of_a_figure_is_harder_to_see_on_a_dark_screen_than_on_paper():
    amount = float(re.search(r"svg, \.verdict, \.tag { filter: invert\(([\d.]+)\) hue-rotate\(180deg\); }", CSS)[1])
    paper = read(re.search(r"dark;.*?--paper: (#\w{6});", CSS, re.DOTALL)[1])
    meanings = (STATE_COLOURS, ZONE_COLOURS, LABEL_COLOURS, ARM_COLOURS, DIRECTION_COLOURS)
    colours = {colour for meaning in meanings for colour in meaning.values()} | {INK, FAINT} | {colour for colour, _ in [*STYLES.values(), *SPARE]}
    for colour in colours:
        here, there = contrast(read(colour), [1.0] * 3), contrast(on_a_dark_screen(read(colour), amount), paper)
        assert there >= min(here, 7.0), f"{colour}: contrast {there:.1f}, on paper {here:.1f}"


def test_both_pages_have_the_same_frame():
    assert STYLE_SHEET.startswith(CSS)


CONTRASTS = """
(() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; } return [255, 255, 255]; };
  return ["h1", ".found", ".facts", ".abstract", "td", ".range", "figcaption", ".columns span", ".card header", ".card .hint", "pre"].map((name) => {
    const e = document.querySelector(name);
    const [dark, bright] = [light(numbers(getComputedStyle(e).color)), light(ground(e))].sort((a, b) => a - b);
    return [name, (bright + 0.05) / (dark + 0.05)];
  });
})()
"""


def look(page: Page, scheme: str, media: str = "") -> None:
    page.call("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_on_a_light_and_on_a_dark_screen(tab, scheme):
    look(tab, scheme)
    assert {name: round(found, 2) for name, found in tab.evaluate(CONTRASTS) if found < 4.5} == {}
    red, green, blue = map(int, re.findall(r"\d+", tab.evaluate("getComputedStyle(document.body).backgroundColor"))[:3])
    assert (max(red, green, blue) < 60) == (scheme == "dark")
    turned = tab.evaluate("[...document.querySelectorAll('svg, .verdict, .tag')].filter((e) => getComputedStyle(e).filter !== 'none').length")
    assert (turned > 0) == (scheme == "dark")


@needs_browser
def test_paper_is_light_whatever_the_screen(tab):
    look(tab, "dark", media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.querySelector('figure svg')).filter") == "none"
    look(tab, "light")


@needs_browser
def test_the_page_fits_a_phone_loads_nothing_and_complains_of_nothing(tab, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render(contents()))
    for width in (390, 1280):
        tab.open(path, width=width)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("document.querySelector('svg.opening').getBoundingClientRect().bottom") < 900  # without scrolling
        assert tab.requests() == [] and tab.complaints() == []


def test_fifty_thousand_rollouts_make_no_larger_page():
    one = contents()
    many = pl.concat([one.labelled.with_columns(pl.format("{}-{}", "rollout_id", pl.lit(copy)).alias("rollout_id")) for copy in range(900)])
    gate = many.select("rollout_id", score=pl.lit(0.5), zone=pl.lit("route"))
    examples = summary.examples(many, gate, pl.DataFrame({"problem_id": ["p0"], "statement": ["a task"]}))
    large = render(replace(one, labelled=many, examples=examples))
    assert many.height > 50_000 and large.count("<article") == 10
    assert f"{many.height} rollouts." in large and len(large) < len(render(one)) + 1000
