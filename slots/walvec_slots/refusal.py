"""What the server's refusals mean: SQLSTATE to error, with the operator's hint.

https://www.postgresql.org/docs/current/errcodes-appendix.html

A code means one thing when a stream is started, another when it ends and a third when slots are managed,
hence three tables. The messages decide nothing: the server may translate them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from psycopg import sql

from walvec_slots.catalog import QUERIES, statement
from walvec_slots.errors import (
    ConnectionLost,
    PreconditionFailed,
    PublicationMissing,
    SlotActive,
    SlotLost,
    SlotWedged,
    WalvecError,
)
from walvec_slots.lsn import Lsn

UNKNOWN_OPTION: Final = "22023"
WEDGED: Final = "54000"

_PASSING_CLASSES: Final = ("", "08", "53", "57")  # connection gone, resources short, operator intervened
DEFAULT_LIBRARIES: Final = ("pgoutput", "test_decoding")
_ANEW: Final = "run: walvec resync"
_PAST: Final = "run: walvec resync (a new slot begins after that place, and all rows are compared)"


def allow_libraries(libraries: Sequence[str]) -> str:
    """Return the statements that make these libraries, and no others, output plugins."""
    alter = statement("allow_libraries", libraries=sql.SQL(", ").join(map(sql.Literal, libraries)))
    return f"{alter}; {QUERIES['reload']}"


def _with_defaults(plugin: str) -> list[str]:
    return list(dict.fromkeys((plugin, *DEFAULT_LIBRARIES)))


def grant_replication(role: str) -> str:
    """Return the statement, a superuser's, that lets a role replicate."""
    return statement("grant_replication", role=sql.Identifier(role))


_REFUSED: Final[Mapping[str, tuple[type[WalvecError], str | None]]] = {
    "55006": (SlotActive, None),
    "42704": (SlotLost, _ANEW),
    "55000": (SlotLost, _ANEW),
    UNKNOWN_OPTION: (PreconditionFailed, "wal2json must be 2.3 or later"),
}

_ENDED: Final[Mapping[str, tuple[type[WalvecError], str | None]]] = {
    "42704": (SlotLost, _ANEW),
    "55000": (SlotLost, _ANEW),
    "58P01": (SlotLost, _ANEW),  # a WAL segment is missing
}


_MANAGED: Final[Mapping[str, tuple[type[WalvecError], str | None]]] = {
    "55006": (SlotActive, "stop the process that reads it first"),
    "42704": (PreconditionFailed, "walvec slots list names those there are"),
    "42710": (PreconditionFailed, "walvec slots list names those there are"),
    "42602": (PreconditionFailed, "a name is up to 63 lower-case letters, digits and underscores"),
    "53400": (PreconditionFailed, "drop a slot that nobody uses, or raise max_replication_slots and restart"),
    "55000": (PreconditionFailed, None),
    "58P01": (PreconditionFailed, "install the plugin for the server's version"),
    "22023": (PreconditionFailed, None),
}


def refused(slot: str, plugin: str, sqlstate: str, message: str) -> WalvecError:
    """Name what keeps a stream from starting."""
    what = f'the slot "{slot}" cannot be started: {message}'
    if sqlstate == "42501":
        # The session began, so the role may replicate: it is the plugin that is refused.
        return PreconditionFailed(what, hint=allow_libraries(_with_defaults(plugin)))
    if sqlstate == "58P01":
        return PreconditionFailed(what, hint=f"install {plugin} for the server's version")
    return _error(_REFUSED, sqlstate, what)


def ended(slot: str, plugin: str, sqlstate: str, message: str, position: Lsn) -> WalvecError:
    """Name what ended a running stream, whose newest frame was at `position`."""
    what = f'the stream of slot "{slot}" ended: {message}'
    if sqlstate == WEDGED:
        hint = "a row is too large to decode: walvec resync begins after it, with a new slot"
        return SlotWedged(f"{what} (after {position})", lsn=position, hint=hint)
    if sqlstate == "42704" and plugin == "pgoutput":
        return PublicationMissing(
            f"{what} at that place of the WAL (after {position})", lsn=position, hint=_PAST
        )
    return _error(_ENDED, sqlstate, what)


def managed(slot: str, sqlstate: str, message: str, role: str) -> WalvecError:
    """Name what keeps a slot from being dropped, advanced or copied."""
    what = f'nothing was done to the slot "{slot}": {message}'
    if sqlstate == "42501":
        return PreconditionFailed(what, hint=grant_replication(role))
    return _error(_MANAGED, sqlstate, what)


def not_created(slot: str, sqlstate: str, message: str, role: str, plugin: str | None) -> WalvecError:
    """Name what keeps a slot from being created; `plugin` is None if the role may not replicate at all."""
    what = f'the slot "{slot}" cannot be created: {message}'
    if sqlstate == "42501":
        # Without the right the plugin is not even looked at.
        hint = allow_libraries(_with_defaults(plugin)) if plugin else grant_replication(role)
        return PreconditionFailed(what, hint=hint)
    if sqlstate == "55000":
        return PreconditionFailed(what, hint=f"{QUERIES['set_wal_level']}, then restart the server")
    return _error(_MANAGED, sqlstate, what)


def _error(
    table: Mapping[str, tuple[type[WalvecError], str | None]], sqlstate: str, what: str
) -> WalvecError:
    if sqlstate in table:
        kind, hint = table[sqlstate]
        return kind(what, hint=hint)
    if sqlstate[:2] in _PASSING_CLASSES:
        return ConnectionLost(what)
    return WalvecError(f"{what} (SQLSTATE {sqlstate})")
