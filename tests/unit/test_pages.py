"""What holds for every page: links lead somewhere, pages stay short, and the English is plain."""

import re
from pathlib import Path

import pytest

from tests.documents import OPERATIONS, PAGES
from tests.fix_postgres import CHECKOUT

INDEX = CHECKOUT / "docs/operations/README.md"
EVERY = [*PAGES, CHECKOUT / "CHANGELOG.md"]
MOST_WORDS = 2_000

# Pages that may be longer: one that the benchmarks write, and one that only grows.
MADE = ("docs/performance.md",)
LONG = (*MADE, "CHANGELOG.md")
# Pages of reference: only what is outside of their tables counts.
REFERENCE = ("docs/configuration.md", "docs/metrics.md", "docs/operations/log.md")

FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`]*`")
QUOTED = re.compile(r'"[^"\n]*"')
LINK = re.compile(r"\]\((?!https?:)([\w./-]*)(?:#([\w-]+))?\)")

# Idioms that are translated, not written (as patterns), and what plain English says instead.
IDIOMS = {
    "anew": "again",
    "at present": "now",
    "by itself": "automatically, or without help",
    "for ever": "without limit",
    "for eyes": "for people",
    "(?<!there )is no": "is not a",
    "lie open": "can be read by everybody",
    "mend": "fix or repair",
    "mends": "fixes or repairs",
    "mended": "fixed or repaired",
    "of its own": "separate",
    "so many": "that many",
    "told": "a verb with a subject",
    "whoever": "a noun",
}


def name_of(page: Path) -> str:
    """Return the page's path in the checkout."""
    return page.relative_to(CHECKOUT).as_posix()


def anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_tables(text: str) -> str:
    """Return the text without the rows of its tables."""
    return re.sub(r"^\|.*$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", EVERY, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link leads to a page that exists, and to a heading that the page has."""
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


@pytest.mark.parametrize("page", [page for page in EVERY if name_of(page) not in LONG], ids=name_of)
def test_a_page_can_be_read_in_one_sitting(page: Path) -> None:
    """A page has fewer than 2,000 words; in reference pages, the tables do not count."""
    text = page.read_text(encoding="utf-8")
    if name_of(page) in REFERENCE:
        text = without_tables(text)
    assert len(text.split()) < MOST_WORDS


@pytest.mark.parametrize("page", [page for page in EVERY if name_of(page) not in MADE], ids=name_of)
def test_the_english_is_plain(page: Path) -> None:
    """No page uses a translated idiom, except where it quotes code or a message."""
    text = page.read_text(encoding="utf-8")
    prose = QUOTED.sub("", CODE.sub("", FENCE.sub("", text)))
    words = " ".join(re.sub(r"[^\w' -]", " ", prose.lower()).split())
    found = [idiom for idiom in IDIOMS if re.search(rf"\b{idiom}\b(?! longer)", words)]
    assert found == [], {idiom: IDIOMS[idiom] for idiom in found}


def test_every_page_on_operations_is_in_the_index() -> None:
    """The index of docs/operations links to each of its pages."""
    linked = {target for target, _ in LINK.findall(INDEX.read_text(encoding="utf-8"))}
    assert {page.name for page in OPERATIONS if page != INDEX} <= linked
