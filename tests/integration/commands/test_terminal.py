"""What comes from rows and catalogs never drives the terminal that a command prints on."""

import json
import re

import pytest

from tests.fix_sidecar import Sidecar

HOSTILE = "\x1b[2J\x1b]0;all is well\x07\r\nwalvec: all is well\u202e\u2066\x9b"
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
FORGED = re.compile("^walvec: all is well", re.MULTILINE)


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """A table whose keys and texts hold what clears a screen and forges a line; one row is parked."""
    sidecar.source.execute("CREATE TABLE blog (id text PRIMARY KEY, body text)")
    sidecar.follow(
        "blog", text="CASE WHEN body LIKE 'bad%' THEN (1 / length(substr(body, 1, 0)))::text ELSE body END"
    )
    sidecar.setup()
    rows = [f"1{HOSTILE}", f"one{HOSTILE}", f"2{HOSTILE}"]
    sidecar.source.execute("INSERT INTO blog VALUES (%s, %s), (%s, 'bad')", rows)
    sidecar.once()
    return sidecar


@pytest.mark.parametrize(
    "words",
    ["dead-letter list", "search blog one", "status", "check --offline", "slots list", "check --estimate"],
)
def test_a_command_s_output_is_inert(blog: Sidecar, words: str) -> None:
    """Tables and lines show control characters as escapes, and no line is forged."""
    blog.target.execute("UPDATE walvec.vectorizer SET paused = %s", [f"because{HOSTILE}"])
    process = blog.start(*words.split())
    printed = process.output()
    assert CONTROLS.search(printed) is None
    assert FORGED.search(printed) is None
    if words in ("dead-letter list", "search blog one"):
        assert "\\x1b[2J" in printed


def test_an_error_is_inert(blog: Sidecar) -> None:
    """What a server says of a name goes to stderr made visible."""
    blog.follow("odd", table="public.blog", text=f'"{HOSTILE.strip()}"'.replace("\n", " ").replace("\r", " "))
    process = blog.start("setup")
    assert process.wait() == 2
    said = "\n".join(str(line["event"]) for line in process.log)
    assert "x1b" in said
    assert CONTROLS.search(said) is None


def test_json_stays_json(blog: Sidecar) -> None:
    """A program reads the key and the chunk as they are."""
    (letter,) = json.loads(blog.start("dead-letter", "list", "--json").output())
    assert letter["key"] == [f"2{HOSTILE}"]
    (found,) = json.loads(blog.start("search", "blog", "one", "--json").output())
    assert found["chunk"] == f"one{HOSTILE}"
