"""The frame of the report: the page with its style sheet, and the small parts that its sections are made of.

Text enters the page through `escape` alone. The page needs no scripts and no network. On a dark screen what is drawn in colours of its
own is inverted and its hues are turned back, so figures and tags stay legible and keep their meaning. Print is light.
"""

import html
import re
from collections.abc import Iterable, Sequence

from projected_grpo.analysis.rates import Rate

NUMBER = re.compile(r"(undefined|[-+]?\d[\d,]*(\.\d+)?( *(\d|to |[\[(]).*)?)?")  # a cell of a column of numbers: one, with a range after it

CSS = """
:root { color-scheme: light; --ink: #222; --quiet: #666; --pale: #767676; --paper: #fff; --panel: #f6f6f3; --line: #ddd; --hair: #e6e6e6;
  --note: #fbeee6; --blue: #0072B2; --orange: #D55E00; }
@media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --ink: #e2e2de; --quiet: #aaa; --pale: #999; --paper: #161616; --panel: #232321; --line: #484848; --hair: #343434;
    --note: #3b2a20; --blue: #58aee2; --orange: #ee8d45; }
  svg, .verdict, .tag { filter: invert(.92) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.6rem 2rem 4rem; max-width: 58rem; color: var(--ink); background: var(--paper);
  font: 15.5px/1.55 "Source Sans 3", "Helvetica Neue", Helvetica, Arial, sans-serif; }
svg text { font-family: "Source Sans 3", "Helvetica Neue", Helvetica, Arial, sans-serif !important; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .7rem; padding-top: .7rem; border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 48rem; }
.found { font-size: 1.25rem; line-height: 1.4; margin: .9rem 0 1rem; }
svg.opening { width: 100%; max-width: 36rem; height: auto; display: block; }
.facts { color: var(--quiet); margin: .35rem 0 1.5rem; }
.abstract { font-size: 1.03rem; padding: .9rem 1.2rem; background: var(--panel); border-left: 3px solid var(--blue);
  max-width: none; }
.note { padding: .6rem 1.2rem; background: var(--note); border-left: 3px solid var(--orange); max-width: none; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; font-size: .92rem; }
th, td { text-align: left; padding: .3rem 1.1rem .3rem 0; vertical-align: baseline; }
th.number, td.number { text-align: right; }
thead th { border-bottom: 1.5px solid var(--ink); font-weight: 600; }
thead th.number { vertical-align: bottom; }
tbody td, tbody th { border-bottom: 1px solid var(--hair); font-weight: 400; }
.wide { overflow-x: auto; }
.wide td { white-space: nowrap; }
.wide:focus-visible { outline: 2px solid var(--blue); outline-offset: 1px; }
.range { color: var(--pale); font-size: .87em; padding-left: .35em; }
figure { margin: 1.6rem 0; break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; }
figure.narrow svg { max-width: 46rem; }
figcaption { color: var(--quiet); font-size: .9rem; line-height: 1.45; margin-top: .6rem; max-width: 50rem; }
figcaption b { color: var(--ink); }
.columns { columns: 2 20rem; column-gap: 2rem; font-size: .85rem; }
.columns div { display: flex; justify-content: space-between; gap: .8rem; border-bottom: 1px solid var(--hair);
  padding: .16rem 0; break-inside: avoid; }
.columns span:last-child { font-variant-numeric: tabular-nums; text-align: right; min-width: 0; overflow-wrap: anywhere; }
.columns span:first-child { color: var(--quiet); flex: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(25rem, 100%), 1fr)); gap: .9rem; }
.card { border: 1px solid var(--line); border-radius: 4px; padding: .65rem .8rem; break-inside: avoid; min-width: 0; }
.card header { display: flex; flex-wrap: wrap; gap: .3rem .7rem; align-items: baseline; font-size: .82rem;
  color: var(--quiet); }
.card .verdict { font-weight: 700; }
.card .task { margin: .35rem 0; font-size: .88rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.card .name { margin-left: auto; }
.card .hint { color: var(--pale); }
.tag { padding: 0 .45em; border-radius: 3px; color: #222; }
pre { margin: .3rem 0 0; padding: .5rem .65rem; background: var(--panel); font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono",
  Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24rem; overflow: auto; }
code { font: .9em ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media (max-width: 46rem) {
  body { padding: 1.4rem .9rem 3rem; }
  h1 { font-size: 1.4rem; }
  figure > .wide > svg { width: 40rem; }
}
@media print {
  @page { margin: 16mm; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  pre { max-height: none; overflow: visible; }
  .wide { overflow: visible; }
  h2 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def escape(value: object) -> str:
    return html.escape(str(value), quote=True)


def page(title: str, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n" + "\n".join(parts) + "</section>"


def figure(number: int, svg: str, caption: str, narrow: bool = False) -> str:
    """A figure under its number. `caption` is our own prose."""
    kind = ' class="narrow"' if narrow else ""
    return f"<figure{kind}>{wide(svg, f'Figure {number}')}<figcaption><b>Figure {number}.</b> {escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are HTML already, the head is text. A column whose cells are all numbers is set to the right."""
    body = [list(row) for row in rows]
    columns = list(zip(*body)) or [()] * len(head)
    kinds = [' class="number"' if _numeric(column) else "" for column in columns]
    top = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, head, strict=True))
    lines = "".join("<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>\n" for row in body)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def _numeric(column: Sequence[str]) -> bool:
    texts = [re.sub("<[^>]*>", " ", cell).strip() for cell in column]
    return any(texts) and all(NUMBER.fullmatch(text) for text in texts)


def wide(content: str, name: str, tall: bool = False) -> str:
    """What scrolls by itself where it is wider than the screen."""
    return f'<div class="wide{" tall" if tall else ""}" role="region" tabindex="0" aria-label="{escape(name)}">{content}</div>'


def listing(entries: Iterable[tuple[str, object]]) -> str:
    """Names and values in columns."""
    lines = (f"<div><span>{escape(name)}</span><span>{escape(value)}</span></div>" for name, value in entries)
    return f'<div class="columns">{"".join(lines)}</div>'


def rate_cell(rate: Rate) -> str:
    if rate.value is None:
        return "undefined"
    return f'{rate.value:.3f}<span class="range">{rate.low:.3f} to {rate.high:.3f}</span>'


def rate_words(rate: Rate) -> str:
    if rate.value is None:
        return "undefined"
    return f"{rate.value:.3f} (95% interval {rate.low:.3f} to {rate.high:.3f})"


def number_words(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
