"""Errors that say what happened, to what, and what to do about it.

    WalvecError                  1  unexpected
    ├── PreconditionFailed       3  a setting, a right or an object is missing; what `check` would report
    │   ├── SlotBlocked          3  a new slot waits for open transactions
    │   ├── PoolerInBetween      3  the connection goes through a connection pooler
    │   └── NotUtf8              3  the database keeps its text in another encoding
    ├── SlotLost                 4  the slot is gone, was invalidated or cannot be used; never retried
    │   └── SlotWedged           4  the server cannot decode what comes next; the slot must be moved past it
    │       └── PublicationMissing  4  the same, because the publication did not exist at that position
    ├── SlotActive               5  another process holds the slot; waiting helps
    ├── ConnectionLost           1  the server or the network went away; retrying helps
    └── MalformedMessage         1  what the plugin sent is not a message of its protocol

The number is the process's exit code when the error ends it. No message holds row text, key values or
secrets.
"""

from typing import ClassVar

from walvec_slots.lsn import Lsn


class WalvecError(Exception):
    """Something failed.

    `what` says what happened, and to what: a sentence without its full stop. `hint` is what to do: the exact
    statement, command or setting.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what if self.hint is None else f"{self.what}; {self.hint}"


class PreconditionFailed(WalvecError):
    """Something does not hold that must hold before the work can start."""

    exit_code = 3


class SlotBlocked(PreconditionFailed):
    """Creating a slot took too long.

    It waits for every transaction that has written and is still open.
    """


class PoolerInBetween(PreconditionFailed):
    """The connection goes through a pooler, which shares sessions between clients."""

    def __init__(self) -> None:
        super().__init__(
            "The connection goes through a connection pooler, which shares server sessions between clients",
            hint="connect to the server itself: its own host and port (usually 5432), not the pooler's",
        )


class NotUtf8(PreconditionFailed):
    """The database's encoding is not UTF8; `side` is source or target."""

    def __init__(self, side: str, database: str, encoding: str | None) -> None:
        super().__init__(
            f'The {side} database "{database}" has the encoding {encoding}; walvec needs UTF8',
            hint="restore a dump of it into: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
            if side == "target" or encoding == "SQL_ASCII"
            else 'set [source] plugin = "pgoutput", which converts text, then run: walvec setup (or resync)',
        )


class SlotLost(WalvecError):
    """The slot does not exist, was invalidated, or cannot serve this stream.

    WAL that it kept may be gone.
    """

    exit_code = 4


class SlotWedged(SlotLost):
    """The server cannot decode what follows `lsn`, now or later.

    Usually that is a row whose JSON is larger than 1 GB.
    """

    def __init__(self, what: str, *, lsn: Lsn, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.lsn = lsn


class PublicationMissing(SlotWedged):
    """The publication did not exist when what follows `lsn` was written.

    pgoutput looks it up as of that position.
    """


class SlotActive(WalvecError):
    """Another process holds the slot."""

    exit_code = 5


class ConnectionLost(WalvecError):
    """The connection to the server ended, or could not be made.

    Nothing is wrong with the slot.
    """


class MalformedMessage(WalvecError):
    """A message that cannot be decoded.

    `lsn` is its frame's. The text never holds any of the message's content.
    """

    def __init__(self, what: str, *, lsn: Lsn, hint: str | None = None) -> None:
        super().__init__(f"The message at {lsn} {what}", hint=hint)
        self.lsn = lsn
