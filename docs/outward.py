"""A hook of the site: it has the pages of docs/ alone, so a link to another file of the repository becomes its path."""

import posixpath
import re

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#:\s]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, page, **_) -> str:
    def outside(link: re.Match) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), link["target"]))
        return link[0] if path.startswith("docs/") else f"{link['text']} (`{path}`)"

    return LINK.sub(outside, markdown)
