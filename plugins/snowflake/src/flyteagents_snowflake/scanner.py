"""SQL cut into words, literals, comments and marks: as much as it takes to know where a statement
ends, what it begins with, and which parentheses belong together.

https://docs.snowflake.com/en/sql-reference/data-types-text#string-constants
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

# In `other`, "-", "/" and "$" stand alone: the next one may make a comment or a text of them.
_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*|//[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<literal>'(?:[^'\\]|\\.|'')*'?|\$\$.*?(?:\$\$|\Z)|"(?:[^"]|"")*"?)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<mark>[();])
    | (?P<other>[^\s\w'"$/();-]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
# A comment to the line's end is not among them: no value has one.
_ENDS = {"'": "'", '"': '"', "$$": "$$", "/*": "*/"}
_OPENERS = ("IF", "FOR", "WHILE", "LOOP", "REPEAT")
# After BEGIN these make it the begin of a transaction, which no END closes.
_TRANSACTION = ("", ";", "TRANSACTION", "WORK", "NAME")
# What leaves a table that a task may want; the others say how many rows, or that it is done.
_TELLING = frozenset(
    [
        "SELECT",
        "WITH",
        "SHOW",
        "DESC",
        "DESCRIBE",
        "CALL",
        "VALUES",
        "TABLE",
        "LIST",
        "LS",
        "EXPLAIN",
        "EXECUTE",
        "BEGIN",
        "DECLARE",
        "(",
    ]
)


@dataclass(frozen=True)
class Token:
    """kind: literal (of text, or a quoted name), word, mark or other. at: where it begins."""

    kind: str
    text: str
    at: int

    @property
    def end(self) -> int:
        return self.at + len(self.text)


@dataclass(frozen=True)
class Part:
    """One statement of a text. word: its first, in upper case. at: where it begins, which is
    before its first comment never. transaction: whether it begins one."""

    word: str
    text: str
    at: int
    transaction: bool = False

    @property
    def tells(self) -> bool:
        """Whether its result has rows that somebody asked for."""
        return self.word in _TELLING and not self.transaction


def tokens(text: str) -> Iterator[Token]:
    """All tokens but spaces and comments."""
    for found in _TOKEN.finditer(text):
        if found.lastgroup != "space":
            yield Token(found.lastgroup or "", found[0], found.start())


def enclosing(text: str) -> dict[int, str]:
    """By where each `%` within a literal, a quoted name or a comment is: what ends that."""
    ends: dict[int, str] = {}
    for found in _TOKEN.finditer(text):
        whole = found[0]
        end = next((end for start, end in _ENDS.items() if whole.startswith(start)), "")
        if end and "%" in whole:
            ends.update({found.start() + at: end for at, c in enumerate(whole) if c == "%"})
    return ends


def parts(text: str) -> list[Part]:
    """The statements of a text. A semicolon in a literal, in a comment, or in a scripting block
    (`BEGIN ... END`) ends none."""
    alone = text.rstrip("; \t\r\n")
    # A statement may have 100,000 literals, and the event loop stands still while they are read.
    if ";" not in alone:
        first = [*islice(tokens(alone), 2)]
        return [_part(alone, first, len(alone))] if first else []

    every = list(tokens(text))
    cut = _cut(every, blocks=True)
    if cut is None:  # BEGIN was the name of something, or Snowflake will say that END is missing
        cut = _cut(every, blocks=False) or []
    return [_part(text, reading, reading[-1].end) for reading in cut if reading]


def _cut(every: list[Token], *, blocks: bool) -> list[list[Token]] | None:
    """The tokens of each statement; None where a scripting block is not closed."""
    cut: list[list[Token]] = [[]]
    opened: list[str] = []
    declaring = False

    for token, following in zip(every, [*every[1:], None], strict=False):
        word = token.text.upper() if token.kind == "word" and blocks else ""
        next_word = following.text.upper() if following else ""
        first = not cut[-1]

        if token.text == ";" and not opened and not declaring:
            cut.append([])
            continue
        # END IF, END LOOP and so on close what is not counted: only BEGIN and CASE are.
        if word == "END" and next_word not in _OPENERS and opened:
            opened.pop()
        elif word == "DECLARE" and (first or cut[-1][-1].text.upper() == "AS"):
            # What is declared before a block's BEGIN has semicolons of its own.
            declaring = True
        elif word == "BEGIN" and not (first and next_word in _TRANSACTION):
            opened.append(word)
            declaring = False
        elif word == "CASE" and (first or cut[-1][-1].text.upper() != "END"):
            opened.append(word)
        cut[-1].append(token)

    return None if opened or declaring else cut


def _part(text: str, reading: list[Token], end: int) -> Part:
    begin = reading[0].at
    word = reading[0].text.upper()
    following = reading[1].text.upper() if len(reading) > 1 else ""
    return Part(
        word,
        text[begin:end],
        begin,
        transaction=word == "BEGIN" and following in _TRANSACTION,
    )
