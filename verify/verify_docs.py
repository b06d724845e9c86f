"""What the documentation points at is there: every relative link with its anchor, every picture, every page in the site's navigation."""

import ast
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.text import Text
from ruamel.yaml import YAML

from projected_grpo.core.runtime import command

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted({*PROJECT.glob("*.md"), *PROJECT.glob("data/*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("campaigns/**/*.md")})
NOTEBOOKS = sorted(PROJECT.glob("docs/*.ipynb"))
MARKDOWN = MarkdownIt("commonmark").enable("table")
README_LINES, README_WORDS = 120, 1500


def text_of(page: Path) -> str:
    if page.suffix != ".ipynb":
        return page.read_text()
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(page.read_text())["cells"] if cell["cell_type"] == "markdown")


def tokens(text: str) -> Iterator[Token]:
    for token in MARKDOWN.parse(text):
        yield token
        yield from token.children or ()


def targets(text: str) -> list[str]:
    """Of links and pictures, without those of the network."""
    found = [token.attrGet("href") or token.attrGet("src") for token in tokens(text) if token.type in ("link_open", "image")]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Of the headings: lower case, spaces as hyphens, no other marks; a repeated one is numbered."""
    blocks = MARKDOWN.parse(text)
    heads = [blocks[place + 1].children for place, token in enumerate(blocks) if token.type == "heading_open"]
    counts, found = Counter(), set()
    for parts in heads:
        words = "".join(part.content for part in parts if part.type in ("text", "code_inline"))
        slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{counts[slug]}" if counts[slug] else slug)
        counts[slug] += 1
    return found


def broken(page: Path, text: str) -> list[str]:
    """Targets of the page that are not there."""
    found = []
    for target in targets(text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        inside = file == page or file.is_relative_to(PROJECT) and file.exists()
        known = inside and (not anchor or file.suffix == ".md" and anchor in anchors(text if file == page else text_of(file)))
        found += [] if known else [target]
    return found


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_relative_link_leads_somewhere(page):
    assert broken(page, text_of(page)) == []


def test_a_link_to_nowhere_is_found():
    text = (
        "# One head\n\n[there](pairs.md) [anchor](#one-head) [site](https://example.org/none) ![gone](none.svg) [no](none.md)\n\n"
        "| [table](no.md) |\n|---|\n\n[no anchor](pairs.md#nothing) [beyond](../../outside.md) `[code](x.md)`\n"
    )
    assert broken(PROJECT / "docs/page.md", text) == ["none.svg", "none.md", "no.md", "pairs.md#nothing", "../../outside.md"]


def test_anchors_are_made_as_repositories_make_them():
    assert anchors("# A `code`, b: c\n\n## Same\n\n## Same\n") == {"a-code-b-c", "same", "same-1"}


def entries(navigation: list) -> Iterator[str]:
    for entry in navigation:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else entries(value)


def test_the_navigation_of_the_site_has_every_page_of_docs():
    pages = {str(page.relative_to(PROJECT / "docs")) for page in PROJECT.glob("docs/*.md")}
    named = set(entries(YAML(typ="safe").load(PROJECT / "mkdocs.yml")["nav"]))
    assert pages - named == set(), "add them to nav in mkdocs.yml"
    assert {name for name in named if not (PROJECT / "docs" / name).exists()} == set()


def test_the_readme_is_short_and_begins_with_a_command():
    text = (PROJECT / "README.md").read_text()
    assert len(text.splitlines()) <= README_LINES and len(text.split()) <= README_WORDS
    assert any(line.startswith("make repro") for line in text.splitlines()[: README_LINES // 3])


def test_the_numbers_of_the_readme_are_those_of_the_committed_run():
    metrics = json.loads((PROJECT / "reports/metrics.json").read_text())
    rates = f"{metrics['hack_rate_as_trained']:.0%} of held-out samples as trained and in {metrics['hack_rate']:.0%} deployed"
    assert rates in " ".join((PROJECT / "README.md").read_text().split())


def helps() -> Iterator[tuple[str, str]]:
    for path in sorted((PROJECT / "stages").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
                yield path.name, node.value.value


def test_the_help_of_an_option_keeps_its_brackets():
    """typer reads it as markup, in which a word in brackets is a style."""
    assert [(name, text) for name, text in helps() if Text.from_markup(text).plain != text.replace("\\[", "[")] == []


@pytest.mark.parametrize("name", sorted(path.stem for path in (PROJECT / "stages").glob("*.py") if path.stem not in ("__init__", "ray_cells")))
def test_the_help_of_a_command_ends_with_an_example_that_it_takes(name):
    module = import_module(f"stages.{name}")
    words = shlex.split(module.EXAMPLE.partition(" > ")[0])
    assert words[:3] == ["python", "-m", f"stages.{name}"]
    line = typer.main.get_command(command(module.main))
    line.make_context(name, words[3:], resilient_parsing=False)  # raises for an option that there is not, or that is missing
    assert line.epilog == f"Example: {module.EXAMPLE}" and line.help


def test_the_help_of_a_stage_says_how_dvc_runs_it():
    line = typer.main.get_command(command(import_module("stages.pipeline.profile").main))
    assert line.epilog == "Example: dvc repro, which runs python -m stages.pipeline.profile with the paths in dvc.yaml"
