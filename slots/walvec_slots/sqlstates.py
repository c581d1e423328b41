"""What the server's refusals mean: SQLSTATE to error, with the operator's hint.

https://www.postgresql.org/docs/current/errcodes-appendix.html

A code means one thing when a stream starts, another when it ends, and a third when a slot is managed; hence
one table for each. The server may translate its messages, so they decide nothing.
"""

from collections.abc import Mapping
from typing import Final

from walvec_slots.catalog import QUERIES
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
from walvec_slots.rights import allow_plugin, grant_replication

UNKNOWN_OPTION: Final = "22023"

# Connection gone, resources short, operator intervened; and a server that gave no code.
_PASSING_CLASSES: Final = ("", "08", "53", "57")

_NOWHERE: Final = Lsn(0)

_RESYNC: Final = "run: walvec resync"
_RESYNC_PAST: Final = "run: walvec resync (a new slot begins after that position; every row is compared)"
_INSTALL: Final = "install {plugin} for the server's version"
_ALLOW: Final = "{allow_plugin}"
_GRANT: Final = "{grant_replication}"
_LIST: Final = "run: walvec slots list"

# SQLSTATE -> the error, and its hint; what stands in braces is filled in where the error is made.
_Meanings = Mapping[str, tuple[type[WalvecError], str | None]]

_STARTING: Final[_Meanings] = {
    "22023": (PreconditionFailed, "install wal2json 2.3 or later"),
    # The session began, so the role may replicate: the plugin is refused.
    "42501": (PreconditionFailed, _ALLOW),
    "42704": (SlotLost, _RESYNC),
    "55000": (SlotLost, _RESYNC),
    "55006": (SlotActive, None),
    "58P01": (PreconditionFailed, _INSTALL),
}

_STREAMING: Final[_Meanings] = {
    "42704": (SlotLost, _RESYNC),
    "54000": (SlotWedged, f"a row is too large to decode; {_RESYNC_PAST}"),
    "55000": (SlotLost, _RESYNC),
    # A WAL segment is missing.
    "58P01": (SlotLost, _RESYNC),
}

_STREAMING_PGOUTPUT: Final[_Meanings] = {**_STREAMING, "42704": (PublicationMissing, _RESYNC_PAST)}

_MANAGING: Final[_Meanings] = {
    "22023": (PreconditionFailed, None),
    "42501": (PreconditionFailed, _GRANT),
    "42602": (PreconditionFailed, "use up to 63 lower-case letters, digits and underscores"),
    "42704": (PreconditionFailed, _LIST),
    "42710": (PreconditionFailed, _LIST),
    "53400": (
        PreconditionFailed,
        "drop a slot that nobody uses, or raise max_replication_slots and restart the server",
    ),
    "55000": (PreconditionFailed, None),
    "55006": (SlotActive, "stop the process that reads it first"),
    "58P01": (
        PreconditionFailed,
        'install the plugin for the server\'s version, or set [source] plugin = "pgoutput"',
    ),
}

_CREATING: Final[_Meanings] = {
    **_MANAGING,
    "55000": (PreconditionFailed, f"{QUERIES['set_wal_level']}, then restart the server"),
}

# With the right to replicate it is the plugin that is refused; without, the server does not look at it.
_CREATING_ALLOWED: Final[_Meanings] = {**_CREATING, "42501": (PreconditionFailed, _ALLOW)}


def start_refused(slot: str, plugin: str, sqlstate: str, message: str) -> WalvecError:
    """Return the error for a stream that the server did not start."""
    what = f'Slot "{slot}" cannot be started: {message}'
    return _meaning(_STARTING, sqlstate, what, plugin=plugin)


def stream_ended(slot: str, plugin: str, sqlstate: str, message: str, position: Lsn) -> WalvecError:
    """Return the error for a stream that ended; its newest frame was at `position`."""
    what = f'The stream of slot "{slot}" ended: {message}'
    meanings = _STREAMING_PGOUTPUT if plugin == "pgoutput" else _STREAMING
    return _meaning(meanings, sqlstate, what, position=position)


def change_refused(slot: str, sqlstate: str, message: str, role: str) -> WalvecError:
    """Return the error for a slot that the server did not drop, advance or copy."""
    what = f'Slot "{slot}" was left as it is: {message}'
    return _meaning(_MANAGING, sqlstate, what, role=role)


def creation_refused(slot: str, sqlstate: str, message: str, role: str, plugin: str | None) -> WalvecError:
    """Return the error for a slot that the server did not create.

    `plugin` is None if the role may not replicate at all.
    """
    what = f'Slot "{slot}" cannot be created: {message}'
    meanings = _CREATING if plugin is None else _CREATING_ALLOWED
    return _meaning(meanings, sqlstate, what, role=role, plugin=plugin or "")


def _meaning(
    meanings: _Meanings,
    sqlstate: str,
    what: str,
    *,
    plugin: str = "",
    role: str = "",
    position: Lsn = _NOWHERE,
) -> WalvecError:
    if sqlstate not in meanings:
        if sqlstate[:2] in _PASSING_CLASSES:
            return ConnectionLost(what)
        return WalvecError(f"{what} (SQLSTATE {sqlstate})")
    kind, hint = meanings[sqlstate]
    if hint is not None:
        hint = hint.format(
            plugin=plugin, allow_plugin=allow_plugin(plugin), grant_replication=grant_replication(role)
        )
    if issubclass(kind, SlotWedged):
        return kind(f"{what} (in the WAL after {position})", lsn=position, hint=hint)
    return kind(what, hint=hint)
