import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_WORDS = 1_800
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")

# `consumer/walvec/stages/plan.py`, `consumer/walvec/embed/`, `tests/unit/slots/test_ack.py::TestIt::test_it`
NAMED = re.compile(r"`((?:slots|consumer|sql|tests|compose|docs)/[\w./-]*)(?:(?:::\w+)*::(\w+))?`")


# The pages that name modules and tests.
TEXT = PAGE + "".join(
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("failures.md", "plugins.md")
)


@pytest.mark.parametrize(("path", "test"), sorted(set(NAMED.findall(TEXT))))
def test_what_is_named_is_there(path: str, test: str) -> None:
    """A module or a test that was moved must not leave its old name on the page."""
    assert (ROOT / path).exists()
    if test:
        assert re.search(
            rf"^ *((async )?def|class) {test}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE
        )


def test_the_page_stays_short() -> None:
    """The page has at most 1,800 words: it links to the rules and does not repeat them."""
    assert len(PAGE.split()) <= MOST_WORDS


def test_each_guarantee_names_its_modules_and_its_tests() -> None:
    """Eight rows: what, where it is kept, which tests fail without it."""
    rows = re.findall(r"^\| (\d)\. .*\|(.*)\|(.*)\|$", PAGE, re.MULTILINE)
    assert [number for number, _, _ in rows] == list("12345678")
    for _, modules, tests in rows:
        assert NAMED.search(modules)
        assert any(test for _, test in NAMED.findall(tests))
