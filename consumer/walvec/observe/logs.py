"""Log lines: an event of `walvec.events` and its key-value pairs, on stderr.

On a terminal they are readable lines, elsewhere one JSON object a line. What libraries log through `logging`
comes out the same way, from warning up.

Row text, key values and secrets must not reach a log call in the first place. `mask` is the last line of
defence. An exception's message is left out unless walvec wrote it, because a database quotes the row that it
refuses.
"""

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from walvec.config.masking import MASK
from walvec.config.names import TRACEBACK_VARIABLE
from walvec.config.sections import LogSettings
from walvec.events import BATCH_COMMITTED
from walvec.observe.visible import visible
from walvec_slots.errors import WalvecError

_MASKED_NAMES = re.compile(
    r"key|text|chunk|row|query|token|.*(dsn|conninfo|password|passwd|secret|api_key|authorization)"
)

# What a secret looks like inside a longer string; the first group is kept.
_SECRETS = (
    re.compile(r"([a-z][a-z0-9+.-]*://[^\s:/@]*:)\S+(?=@)", re.IGNORECASE),
    re.compile(
        r"(\b\w*(?:password|passwd|secret|api_?key|token)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE
    ),
    re.compile(r"(\bbearer\s+)[^\s,;]+", re.IGNORECASE),
)


def set_up(log: LogSettings, stream: TextIO | None = None) -> None:
    """Send log lines to `stream` (stderr by default), as the settings say."""
    stream = stream or sys.stderr
    prepare: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        describe_exception,
        mask,
    ]
    renderer = _choose_renderer(log, stream)
    if isinstance(renderer, structlog.dev.ConsoleRenderer):
        prepare += [shorten_batch, make_visible]
    structlog.configure(
        processors=[*prepare, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(log.level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    _route_libraries(stream, [structlog.stdlib.add_logger_name, *prepare], renderer)


@contextmanager
def diverted(stream: TextIO) -> Iterator[None]:
    """Send all log lines to another stream for the length of a block."""
    factory = structlog.get_config()["logger_factory"]
    handlers = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    streams = [handler.setStream(stream) for handler in handlers]
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=stream))
    try:
        yield
    finally:
        structlog.configure(logger_factory=factory)
        for handler, before in zip(handlers, streams, strict=True):
            handler.setStream(before)


def describe_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace a traceback by the exception's class and place; a structlog processor."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else (sys.exception() if given is True else given)
    if isinstance(error, BaseException):
        event["error"] = type(error).__qualname__
        event["where"] = _place_of(error)
        if isinstance(error, WalvecError):
            event["what"] = str(error)
        if os.environ.get(TRACEBACK_VARIABLE) == "1":
            event["exception"] = "".join(traceback.format_exception(error))
    return event


def mask(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace secrets and the content of rows; a structlog processor.

    A value is masked by the name of its field, or where it looks like a secret.
    """
    return {name: _masked_value(name, value) for name, value in event.items()}


def masked(text: str) -> str:
    """Replace what looks like a secret in a text that is shown outside the log."""
    for secret in _SECRETS:
        text = secret.sub(rf"\g<1>{MASK}", text)
    return text


def shorten_batch(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Make one short line of a committed batch, for people; a structlog processor.

    For example: `blog  881 rows, 793 embedded, 0 parked, 626 ms`. JSON keeps all fields.
    """
    if event["event"] != BATCH_COMMITTED.name:
        return event
    counts = (
        f"{event['rows']:,} rows, {event['texts_embedded']:,} embedded, {event['rows_parked']:,} parked, "
        f"{event['total_ms']:,.0f} ms"
    )
    kept = {name: event[name] for name in ("timestamp", "level") if name in event}
    return {**kept, "event": f"{event['vectorizer']}  {counts}"}


def make_visible(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Make control characters visible in every value; a structlog processor.

    A traceback keeps its lines.
    """
    return {name: value if name == "exception" else _visible_value(value) for name, value in event.items()}


def _visible_value(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {_visible_value(inner): _visible_value(item) for inner, item in value.items()}
    return [_visible_value(item) for item in value] if isinstance(value, list | tuple) else value


def _masked_value(name: str, value: Any) -> Any:
    if _MASKED_NAMES.fullmatch(name.lower()) and value is not None:
        return MASK
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {inner: _masked_value(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked_value("", item) for item in value]
    return f"{len(value)} bytes" if isinstance(value, bytes | bytearray | memoryview) else value


def _place_of(error: BaseException) -> str:
    """Name the innermost line of the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def _choose_renderer(log: LogSettings, stream: TextIO) -> Processor:
    if log.format == "json" or (log.format == "auto" and not stream.isatty()):
        return structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    colors = stream.isatty() and not os.environ.get("NO_COLOR")
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _route_libraries(stream: TextIO, prepare: Sequence[Processor], renderer: Processor) -> None:
    """Send what libraries log or warn of to `stream`, in the format of walvec's lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=prepare,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
