"""What the environment `code` shows and reads, in either world: from a problem and a shown mode to the prompt, and from a completion
back to a program.

The toy world's base model continues plain text, and its completion is the program. A model that is asked in a chat gets a system
and a user message, and the program is a fenced block of its answer.
"""

from markdown_it import MarkdownIt
from markdown_it.token import Token

from projected_grpo.prompts.modes import GT_ONLY, LOOPHOLES, Words, words_of

SYSTEM = (  # as published with the LeetCode problems
    "You are an expert Python programmer. Write correct, efficient Python 3 code that solves the problem and passes "
    "all tests. Output the code in the following format: ```python\n<code>\n```"
)
PYTHON = {"python", "python3", "py", "py3"}  # first words of a block's info string, whatever their case
MARKDOWN = MarkdownIt("commonmark")


def toy_prompt(statement: str, shown_mode: str, words: Words) -> str:
    """Statement, then the hint of the shown mode on a line of its own, or nothing for gt_only."""
    return statement + "\n" if shown_mode == GT_ONLY else f"{statement}\n{LOOPHOLES[shown_mode].hint.format(**vars(words))}\n"


def chat_prompt(problem: dict, shown_mode: str) -> str:
    """The user message: statement, then the hint of the shown mode as a paragraph, or nothing for gt_only."""
    if shown_mode == GT_ONLY:
        return problem["statement"]
    hint = LOOPHOLES[shown_mode].chat_hint.format(call=problem["entry_point"], **vars(words_of(problem)))
    return f"{problem['statement']}\n\n{hint}"


def program_of(chat: bool, text: str) -> str:
    """The program of a completion. In a chat: its first closed fenced block of Python, else its first closed fenced block.

    Blocks are those of CommonMark, so a fence may be of tildes, indented or inside a list. A chat completion without a closed
    block has the empty program, which earns nothing in the environment.
    """
    if not chat:
        return text
    blocks = [token for token in MARKDOWN.parse(text) if token.type == "fence" and _closed(token)]
    named = [block for block in blocks if set(block.info.lower().split()[:1]) <= PYTHON and block.info.strip()]
    return next((block.content for block in (*named, *blocks)), "")


def _closed(block: Token) -> bool:
    """Whether two fences stand around the lines of the block; CommonMark lets one end with the text, in the middle of a line too."""
    first, end = block.map
    return end - first - 2 == block.content.count("\n") and (not block.content or block.content.endswith("\n"))
