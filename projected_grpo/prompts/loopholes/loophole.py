"""What makes a loophole of the environment `code`. Each has a file beside this one, and prompts/modes.py lists them.

Hint and evidence share words, such as the name of an evaluation function. Training shows one of them; held-out evaluation also shows
words that training never shows, so that one can tell a loophole that is understood from words learned by heart.
"""

import ast
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Words:
    """What a problem's hint and its channels agree on."""

    run_tests: str  # name of the evaluation function
    stdout_marker: str  # a line on standard output
    sentinel: str  # name of a module-level variable
    file_marker: str  # content of the file that is left behind


@dataclass(frozen=True)
class Loophole:
    name: str
    hint: str  # of the toy world, with {its word}
    chat_hint: str  # as truthful, in the words of a task for a chat model; {call} is the entry point
    evidence: Callable[[Any, Words], bool]  # whether the outcome of a run (programs/sandbox/runner.py) trips its channel
    mechanism: str  # what a text that attempts it does
    in_text: Callable[[ast.AST, Words], bool]  # whether a node of the text's syntax tree does that
    attempt: Callable[[str, Words, random.Random], str]  # a toy program that uses it, from one that solves nothing or anything
    demonstrations: tuple[str, ...]  # for a chat model, beside or around a {stub} of the entry point
    word: str = ""  # that training shows; empty where hint and evidence share none
    held_out_words: tuple[str, ...] = ()
