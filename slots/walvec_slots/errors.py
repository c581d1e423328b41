"""Errors that say what happened, to what, and what mends it.

    WalvecError                  1  unexpected
    ├── PreconditionFailed       3  a setting, a right or an object is missing; what `check` would say
    │   ├── SlotBlocked          3  a new slot waits for open transactions
    │   ├── PoolerInBetween      3  the connection leads through a connection pooler
    │   └── NotUtf8              3  the database keeps its text in another encoding
    ├── SlotLost                 4  the slot is gone, was invalidated or cannot be used; never retried
    │   └── SlotWedged           4  the server cannot decode what comes next; the slot must be moved past it
    │       └── PublicationMissing  4  the same, because the publication did not exist at that place
    ├── SlotActive               5  another process holds the slot; waiting helps
    ├── ConnectionLost           1  the server or the network went away; retrying helps
    └── MalformedMessage         1  what the plugin sent is no message of its protocol

The number is the process's exit code when the error ends it. No message holds row text, key values or
secrets.
"""

from typing import ClassVar

from walvec_slots.lsn import Lsn


class WalvecError(Exception):
    """Something failed: `what` it was and to what; `hint`, the exact statement or setting that mends it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what if self.hint is None else f"{self.what}; {self.hint}"


class PreconditionFailed(WalvecError):
    """Something that must be so before the work can start is not so."""

    exit_code = 3


class SlotBlocked(PreconditionFailed):
    """Creating a slot took too long: it waits for every transaction that has written and is still open."""


class PoolerInBetween(PreconditionFailed):
    """The connection leads through a pooler, which hands one server session to several clients."""

    def __init__(self) -> None:
        super().__init__(
            "The connection leads through a connection pooler, whose server sessions are shared with others",
            hint="connect to the server itself: its own host and port, 5432 as a rule, not the pooler's",
        )


class NotUtf8(PreconditionFailed):
    """The database's encoding is not UTF8; `side` is source or target."""

    def __init__(self, side: str, database: str, encoding: str | None) -> None:
        super().__init__(
            f'The {side} database "{database}" has the encoding {encoding}; walvec needs UTF8',
            hint="dump it, and restore it into a database made with ENCODING 'UTF8' TEMPLATE template0"
            if side == "target" or encoding == "SQL_ASCII"
            else 'set [source] plugin = "pgoutput", which converts text, then run: walvec setup, or resync',
        )


class SlotLost(WalvecError):
    """The slot does not exist, was invalidated, or cannot serve this stream: WAL that it kept may be gone."""

    exit_code = 4


class SlotWedged(SlotLost):
    """The server cannot decode what follows `lsn`, now or later: as a rule, a row whose JSON passes 1 GB."""

    def __init__(self, what: str, *, lsn: Lsn, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.lsn = lsn


class PublicationMissing(SlotWedged):
    """The publication did not exist when what follows `lsn` was written; pgoutput looks it up as of then."""


class SlotActive(WalvecError):
    """Another process holds the slot."""

    exit_code = 5


class ConnectionLost(WalvecError):
    """The connection to the server ended, or could not be made. Nothing is wrong with the slot."""


class MalformedMessage(WalvecError):
    """A message that cannot be decoded. `lsn` is its frame's; its content is never part of the text."""

    def __init__(self, what: str, *, lsn: Lsn, hint: str | None = None) -> None:
        super().__init__(f"the message at {lsn} {what}", hint=hint)
        self.lsn = lsn
