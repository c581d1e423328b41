import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from walvec.config.names import TRACEBACK_VARIABLE
from walvec.config.sections import LogSettings
from walvec.errors import ConfigInvalid
from walvec.observe import logs


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(TRACEBACK_VARIABLE, raising=False)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    """A stream that gets JSON lines."""
    stream = io.StringIO()
    logs.set_up(LogSettings(), stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Read the JSON lines written so far."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_event_and_its_pairs(stream: io.StringIO) -> None:
    """Elsewhere than on a terminal, JSON with level and UTC time."""
    structlog.get_logger().info("batch written", rows=3, lsn="0/1", café="é")
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "batch written", "level": "info", "rows": 3, "lsn": "0/1", "café": "é"}


def test_the_level_is_the_least_that_is_said(stream: io.StringIO) -> None:
    """Below the level nothing is written."""
    logs.set_up(LogSettings(level="warning"), stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is for eyes on a terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    logs.set_up(LogSettings(), terminal)
    structlog.get_logger().info("started", slot="walvec")
    assert "\x1b[" in terminal.getvalue()


def test_json_may_be_asked_for_on_a_terminal() -> None:
    """The format set wins over the kind of stream."""
    terminal = Terminal()
    logs.set_up(LogSettings(format="json"), terminal)
    structlog.get_logger().info("started")
    assert lines(terminal)[0]["event"] == "started"


def test_console_may_be_asked_for_elsewhere() -> None:
    """In a file it comes without colours."""
    stream = io.StringIO()
    logs.set_up(LogSettings(format="console"), stream)
    structlog.get_logger().info("started", slot="walvec")
    assert "slot=walvec" in stream.getvalue()


def test_libraries_speak_from_warning_up(stream: io.StringIO) -> None:
    """`logging` comes out in the same shape, with the logger's name."""
    logging.getLogger("httpx").info("GET …")
    logging.getLogger("httpx").warning("slow: %s", "mistral")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("slow: mistral", "warning", "httpx")


def test_warnings_are_lines_too(stream: io.StringIO) -> None:
    """Python's warnings would otherwise break the JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old", stacklevel=1)
    assert "old" in lines(stream)[0]["event"]


@pytest.mark.parametrize(
    "pairs",
    [
        {"dsn": "hunter2"},
        {"source_dsn": "hunter2"},
        {"password": "hunter2"},
        {"api_key": "hunter2"},
        {"Authorization": "hunter2"},
        {"key": ["hunter2"]},
        {"text": "hunter2"},
        {"settings": {"inner": {"password": "hunter2"}}},
        {"error": "postgresql://u:hunter2@h/db refused"},
        {"error": "host=h password=hunter2 user=u"},
        {"error": "host=h password = 'hunter2 hunter2' user=u"},
        {"error": "host=h sslpassword='a\\'hunter2'"},
        {"error": "Authorization: Bearer hunter2"},
        {"errors": ["https://u:hunter2@h/v1"]},
        {"secret": SecretStr("hunter2")},
        {"payload": b"hunter2"},
    ],
)
def test_secrets_and_content_are_masked(stream: io.StringIO, pairs: dict[str, Any]) -> None:
    """By the pair's name, or by what the value looks like."""
    structlog.get_logger().info("something", **pairs)
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize(
    "pairs",
    [
        {"tokens": 3},
        {"key_columns": ["id"]},
        {"table": "public.blog"},
        {"api_key_env": "MISTRAL_API_KEY"},
        {"url": "http://127.0.0.1:9187/metrics"},
        {"rows": 3, "chunks": 4},
    ],
)
def test_counts_and_names_are_not(stream: io.StringIO, pairs: dict[str, Any]) -> None:
    """What an operator needs stays readable."""
    structlog.get_logger().info("something", **pairs)
    (line,) = lines(stream)
    assert {name: line[name] for name in pairs} == pairs


def test_an_exception_is_its_class_and_place(stream: io.StringIO) -> None:
    """A database's error quotes rows, so its words stay out."""
    try:
        int("hunter2")
    except ValueError:
        structlog.get_logger().exception("write failed")
    (line,) = lines(stream)
    assert line["error"] == "ValueError"
    assert line["where"].startswith("test_logs.py:")
    assert "hunter2" not in stream.getvalue()


def test_our_own_exceptions_speak(stream: io.StringIO) -> None:
    """They never hold what must not be shown."""
    structlog.get_logger().error("stopped", exc_info=ConfigInvalid("slot is wrong", hint="mend it"))
    assert lines(stream)[0]["what"] == "slot is wrong; mend it"


def test_a_traceback_on_request(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """WALVEC_TRACEBACK=1 is the operator's own decision."""
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    structlog.get_logger().error("stopped", exc_info=ValueError("words"))
    assert "ValueError: words" in lines(stream)[0]["exception"]


def test_lines_can_be_diverted_for_a_while(stream: io.StringIO) -> None:
    """Ours and the libraries' alike, looking as before."""
    other = io.StringIO()
    with logs.diverted(other):
        structlog.get_logger().info("ours")
        logging.getLogger("library").warning("theirs")
    structlog.get_logger().info("after")
    logging.getLogger("library").warning("later")
    assert [line["event"] for line in lines(other)] == ["ours", "theirs"]
    assert [line["event"] for line in lines(stream)] == ["after", "later"]
