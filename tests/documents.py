"""README.md and docs/ as their readers use them: the code blocks, and the command lines in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.fix_postgres import CHECKOUT

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
OPERATIONS = sorted((CHECKOUT / "docs/operations").glob("*.md"))

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_SEPARATORS = ("|", "&&", ";")


@dataclass(frozen=True)
class Block:
    """A fenced block: the page's path in the checkout, the line it begins on, what it is and what it says."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} [{self.language}]"


@dataclass(frozen=True)
class Command:
    """A command line of a block, without the variables that are set before it."""

    block: Block
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        """What is called, without its folder."""
        return self.words[0].rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.block.page}:{self.block.line} {shlex.join(self.words)}"


def section(page: str, heading: str) -> str:
    """Return what stands under a heading of a page, up to the next heading of its level or a higher one."""
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    start = re.search(rf"^(#+) {re.escape(heading)}.*\n", text, re.MULTILINE)
    assert start, f"{page} has no heading {heading}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", _FENCE.sub(_blank, rest), re.MULTILINE)
    return rest[: end.start()] if end else rest


def _blank(fence: re.Match[str]) -> str:
    return " " * len(fence[0])


@cache
def blocks() -> tuple[Block, ...]:
    """Return every block of every page, in their order."""
    return tuple(block for page in PAGES for block in _blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        name = page.relative_to(CHECKOUT).as_posix()
        yield Block(name, line, fence["language"].strip(), fence["text"])


def commands(block: Block) -> list[Command]:
    """Return the block's command lines; one for each part of a pipe."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        words = _words(line)
        while words:
            end = next((i for i, word in enumerate(words) if word in _SEPARATORS), len(words))
            part, words = words[:end], words[end + 1 :]
            while part and _ASSIGNMENT.match(part[0]):
                part = part[1:]
            if part:
                found.append(Command(block, tuple(part)))
    return found


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    return list(lexer)


def inline_commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every `walvec …` within a line of prose: page and words."""
    for page in PAGES:
        prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for code in re.findall(r"`(walvec [a-z-][^`]*)`", prose):
            yield page.relative_to(CHECKOUT).as_posix(), tuple(_words(re.sub(r"\s+", " ", code)))
