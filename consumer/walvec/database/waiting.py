"""What a session's statement waits for, as the server says through another session; and which of ours wait.

A session that hangs in a commit cannot say so itself, and nobody who waits for it can.
"""

from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from walvec.config.masking import printable
from walvec_slots.queries import load_sql

HELD_UP_AFTER: Final = 3.0  # seconds that a statement waits, from which it keeps the work from getting done
FRESH: Final = 5.0  # seconds in which a reason seen during a statement is still the one that it failed for

_QUERIES = load_sql("session.sql")


@dataclass(frozen=True, slots=True)
class WaitingStatement:
    """A statement as the server sees it. None: not known, or nothing."""

    at_work: bool
    event: str | None  # "type: event"
    holders: list[str] | None  # the sessions that hold the lock that it waits for
    seconds: float | None  # since when it runs

    def reason(self) -> str | None:
        """Say what it waits for, where that is somebody else's doing; None while it is at work."""
        if not self.at_work or self.event is None:
            return None
        if self.event == "IPC: SyncRep":
            return (
                "a commit waits for a synchronous standby (SyncRep): is a server named in "
                "synchronous_standby_names away?"
            )
        if self.event.startswith("Lock: "):
            holders = "; ".join(map(printable, self.holders or ())) or "another session"
            return f"a statement waits for a lock ({self.event}) that {holders} holds"
        if self.event.startswith("BufferPin: "):
            return f"a statement waits for other sessions ({self.event})"
        return None


async def look_at_statement(connection: psycopg.AsyncConnection[Any], pid: int) -> WaitingStatement | None:
    """Ask the server what a session's statement waits for; None where there is no such session."""
    cursor = connection.cursor(row_factory=class_row(WaitingStatement))
    await cursor.execute(_QUERIES["waits_for"], {"pid": pid})
    return await cursor.fetchone()


class HeldUp:
    """Which sessions of this process were seen waiting for something, since when, and for what."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[float, str]] = {}  # by session
        self._last: tuple[float, str] | None = None

    def note(self, session: int, since: float, reason: str) -> None:
        """Note what a session has been waiting for since that moment of the monotonic clock."""
        self._waiting[session] = since, reason
        self._last = monotonic(), reason

    def end(self, session: int) -> None:
        """Note that it waits no more."""
        self._waiting.pop(session, None)

    def reason(self) -> str | None:
        """Say what keeps this process from its work; None where nothing is known to for long."""
        now = monotonic()
        return next(
            (
                f"{reason} (for {now - since:.0f} s)"
                for since, reason in self._waiting.values()
                if now - since >= HELD_UP_AFTER
            ),
            None,
        )

    def lately(self) -> str | None:
        """Say what a statement that has just failed was waiting for, if anything."""
        if self._last is None or monotonic() - self._last[0] > FRESH:
            return None
        return self._last[1]


held_up: Final = HeldUp()  # of this process
