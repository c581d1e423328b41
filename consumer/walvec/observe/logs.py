"""Log lines: an event and its key-value pairs, on stderr.

On a terminal they are for eyes, elsewhere one JSON object a line. What libraries say through `logging`
comes out the same way, from warning up.

Row text, key values and secrets have no business in a log call to begin with. `mask` is the last line of
defence, and an exception's own words are left out unless it is ours: a database quotes the row it refuses.
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

from walvec.config.names import TRACEBACK_VARIABLE
from walvec.config.sections import LogSettings
from walvec.observe.visible import visible
from walvec_slots.errors import WalvecError

MASKED = "***"

_MASKED_NAMES = re.compile(
    r"key|text|chunk|row|query|token|.*(dsn|conninfo|password|passwd|secret|api_key|authorization)"
)

# What a secret looks like within a longer string; the first group stays.
_SECRETS = (
    re.compile(r"([a-z][a-z0-9+.-]*://[^\s:/@]*:)\S+(?=@)", re.IGNORECASE),
    re.compile(
        r"(\b\w*(?:password|passwd|secret|api_?key|token)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE
    ),
    re.compile(r"(\bbearer\s+)[^\s,;]+", re.IGNORECASE),
)


def set_up(log: LogSettings, stream: TextIO | None = None) -> None:
    """Send all log lines to `stream` (default: stderr), from `log.level` up, in `log.format`."""
    stream = stream or sys.stderr
    prepare: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        describe_exception,
        mask,
    ]
    renderer = _renderer(log, stream)
    if isinstance(renderer, structlog.dev.ConsoleRenderer):
        prepare.append(make_visible)
    structlog.configure(
        processors=[*prepare, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(log.level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    _route_libraries(stream, [structlog.stdlib.add_logger_name, *prepare], renderer)


@contextmanager
def diverted(stream: TextIO) -> Iterator[None]:
    """Send all log lines to another stream for a while, looking as before."""
    factory = structlog.get_config()["logger_factory"]
    handlers = [each for each in logging.getLogger().handlers if type(each) is logging.StreamHandler]
    streams = [handler.setStream(stream) for handler in handlers]
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=stream))
    try:
        yield
    finally:
        structlog.configure(logger_factory=factory)
        for handler, before in zip(handlers, streams, strict=True):
            handler.setStream(before)


def describe_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Say an exception's class and place in place of its traceback; a structlog processor."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else (sys.exception() if given is True else given)
    if isinstance(error, BaseException):
        event["error"] = type(error).__qualname__
        event["where"] = _place(error)
        if isinstance(error, WalvecError):
            event["what"] = str(error)
        if os.environ.get(TRACEBACK_VARIABLE) == "1":
            event["exception"] = "".join(traceback.format_exception(error))
    return event


def mask(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace whatever is, or looks like, a secret or the content of a row; a structlog processor."""
    return {name: _masked(name, value) for name, value in event.items()}


def masked(text: str) -> str:
    """Replace whatever looks like a secret in a text that is shown outside the log."""
    for secret in _SECRETS:
        text = secret.sub(rf"\g<1>{MASKED}", text)
    return text


def make_visible(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Let no value drive the terminal that shows the log; a structlog processor.

    A traceback keeps its lines.
    """
    return {name: value if name == "exception" else _shown(value) for name, value in event.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {_shown(inner): _shown(item) for inner, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list | tuple) else value


def _masked(name: str, value: Any) -> Any:
    if _MASKED_NAMES.fullmatch(name.lower()) and value is not None:
        return MASKED
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {inner: _masked(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked("", item) for item in value]
    return f"{len(value)} bytes" if isinstance(value, bytes | bytearray | memoryview) else value


def _place(error: BaseException) -> str:
    """Name the innermost line of the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def _renderer(log: LogSettings, stream: TextIO) -> Processor:
    if log.format == "json" or (log.format == "auto" and not stream.isatty()):
        return structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    colors = stream.isatty() and not os.environ.get("NO_COLOR")
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _route_libraries(stream: TextIO, prepare: Sequence[Processor], renderer: Processor) -> None:
    """Let `logging` and `warnings` come out like our own lines."""
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
