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
from walvec.events import BATCH_COMMITTED
from walvec.observe import logs


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Claim to be a terminal."""
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
    """Return a stream that gets JSON lines."""
    stream = io.StringIO()
    logs.set_up(LogSettings(), stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Read the JSON lines written so far."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_event_and_its_pairs(stream: io.StringIO) -> None:
    """A stream that is not a terminal gets JSON with level and UTC time."""
    structlog.get_logger().info("batch written", rows=3, lsn="0/1", café="é")
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "batch written", "level": "info", "rows": 3, "lsn": "0/1", "café": "é"}


def test_the_level_is_the_least_that_is_said(stream: io.StringIO) -> None:
    """Nothing below the configured level is written."""
    logs.set_up(LogSettings(level="warning"), stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The format `auto` means readable, coloured lines on a terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    logs.set_up(LogSettings(), terminal)
    structlog.get_logger().info("started", slot="walvec")
    assert "\x1b[" in terminal.getvalue()


def test_json_may_be_asked_for_on_a_terminal() -> None:
    """The configured format wins over the kind of stream."""
    terminal = Terminal()
    logs.set_up(LogSettings(format="json"), terminal)
    structlog.get_logger().info("started")
    assert lines(terminal)[0]["event"] == "started"


def test_console_may_be_asked_for_elsewhere() -> None:
    """The console format has no colours in a file."""
    stream = io.StringIO()
    logs.set_up(LogSettings(format="console"), stream)
    structlog.get_logger().info("started", slot="walvec")
    assert "slot=walvec" in stream.getvalue()


BATCH: dict[str, Any] = {
    "vectorizer": "blog",
    "lsn": "0/1",
    "transactions": 2,
    "rows": 1_881,
    "rows_without_embedding": 3,
    "rows_parked": 0,
    "texts_embedded": 793,
    "texts_reused": 90,
    "chunks_written": 883,
    "embed_ms": 500.2,
    "total_ms": 626.4,
}


def test_a_batch_is_one_short_line_on_a_console() -> None:
    """People see rows, texts and time of a batch, and none of the fields' names."""
    stream = io.StringIO()
    logs.set_up(LogSettings(format="console"), stream)
    structlog.get_logger().info(BATCH_COMMITTED.name, **BATCH)
    [line] = stream.getvalue().splitlines()
    assert line.partition("] ")[2].strip() == "blog  1,881 rows, 793 embedded, 0 parked, 626 ms"


def test_a_batch_has_all_its_fields_in_json(stream: io.StringIO) -> None:
    """Programs get the whole line of a batch."""
    structlog.get_logger().info(BATCH_COMMITTED.name, **BATCH)
    (line,) = lines(stream)
    assert {name: line[name] for name in ("event", *BATCH)} == {"event": "batch.committed", **BATCH}


def test_libraries_speak_from_warning_up(stream: io.StringIO) -> None:
    """What libraries log looks the same, with the logger's name."""
    logging.getLogger("httpx").info("GET …")
    logging.getLogger("httpx").warning("slow: %s", "mistral")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("slow: mistral", "warning", "httpx")


def test_warnings_are_lines_too(stream: io.StringIO) -> None:
    """Python's warnings become log lines; otherwise they would break the JSON."""
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
    """A value is masked by its name, or because it looks like a secret."""
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
    """Values that an operator needs stay readable."""
    structlog.get_logger().info("something", **pairs)
    (line,) = lines(stream)
    assert {name: line[name] for name in pairs} == pairs


def test_an_exception_is_its_class_and_place(stream: io.StringIO) -> None:
    """An exception's message is left out, because a database's quotes rows."""
    try:
        int("hunter2")
    except ValueError:
        structlog.get_logger().exception("write failed")
    (line,) = lines(stream)
    assert line["error"] == "ValueError"
    assert line["where"].startswith("test_logs.py:")
    assert "hunter2" not in stream.getvalue()


def test_our_own_exceptions_speak(stream: io.StringIO) -> None:
    """The message of walvec's own exceptions is logged, since none is private."""
    structlog.get_logger().error("stopped", exc_info=ConfigInvalid("slot is wrong", hint="correct it"))
    assert lines(stream)[0]["what"] == "slot is wrong; correct it"


def test_a_traceback_on_request(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator may ask for tracebacks with WALVEC_TRACEBACK=1."""
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    structlog.get_logger().error("stopped", exc_info=ValueError("words"))
    assert "ValueError: words" in lines(stream)[0]["exception"]


def test_lines_can_be_diverted_for_a_while(stream: io.StringIO) -> None:
    """Lines of walvec and of libraries are diverted in the same format."""
    other = io.StringIO()
    with logs.diverted(other):
        structlog.get_logger().info("ours")
        logging.getLogger("library").warning("theirs")
    structlog.get_logger().info("after")
    logging.getLogger("library").warning("later")
    assert [line["event"] for line in lines(other)] == ["ours", "theirs"]
    assert [line["event"] for line in lines(stream)] == ["after", "later"]
