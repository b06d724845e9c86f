"""The frame of the report: the page with its style sheet, and the small parts that its sections are made of.

Text enters the page through `escape` alone. The page needs no scripts and no network.
"""

import html
from collections.abc import Iterable, Sequence

from projected_grpo.analysis.rates import Rate

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.6rem 2rem 4rem; max-width: 58rem; color: #222; background: #fff;
  font: 15.5px/1.55 "Source Sans 3", "Helvetica Neue", Helvetica, Arial, sans-serif; }
svg text { font-family: "Source Sans 3", "Helvetica Neue", Helvetica, Arial, sans-serif !important; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .7rem; padding-top: .7rem; border-top: 1px solid #ddd; }
p { margin: .5rem 0; max-width: 48rem; }
.facts { color: #666; margin: .35rem 0 1.5rem; }
.abstract { font-size: 1.03rem; padding: .9rem 1.2rem; background: #f6f6f3; border-left: 3px solid #0072B2;
  max-width: none; }
.note { padding: .6rem 1.2rem; background: #fbeee6; border-left: 3px solid #D55E00; max-width: none; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; font-size: .92rem; }
th, td { text-align: left; padding: .3rem 1.1rem .3rem 0; vertical-align: baseline; }
thead th { border-bottom: 1.5px solid #222; font-weight: 600; }
tbody td, tbody th { border-bottom: 1px solid #e6e6e6; font-weight: 400; }
.range { color: #767676; font-size: .87em; padding-left: .35em; }
figure { margin: 1.6rem 0; break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; }
figure.narrow svg { max-width: 46rem; }
figcaption { color: #444; font-size: .9rem; line-height: 1.45; margin-top: .6rem; max-width: 50rem; }
figcaption b { color: #222; }
.columns { columns: 3 15rem; column-gap: 2rem; font-size: .85rem; }
.columns div { display: flex; justify-content: space-between; gap: .8rem; border-bottom: 1px solid #eee;
  padding: .16rem 0; break-inside: avoid; }
.columns span:last-child { font-variant-numeric: tabular-nums; text-align: right; overflow-wrap: anywhere; }
.columns span:first-child { color: #666; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(25rem, 1fr)); gap: .9rem; }
.card { border: 1px solid #ddd; border-radius: 4px; padding: .65rem .8rem; break-inside: avoid; min-width: 0; }
.card header { display: flex; flex-wrap: wrap; gap: .3rem .7rem; align-items: baseline; font-size: .82rem;
  color: #666; }
.card .verdict { font-weight: 700; }
.card .task { margin: .35rem 0; font-size: .88rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.card .name { margin-left: auto; }
.card .hint { color: #767676; }
.tag { padding: 0 .45em; border-radius: 3px; color: #222; }
pre { margin: .3rem 0 0; padding: .5rem .65rem; background: #f6f6f3; font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono",
  Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24rem; overflow: auto; }
code { font: .9em ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
@media print {
  @page { margin: 16mm; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  pre { max-height: none; overflow: visible; }
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
    return f"<figure{kind}>{svg}<figcaption><b>Figure {number}.</b> {escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are HTML already, the head is text."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


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
