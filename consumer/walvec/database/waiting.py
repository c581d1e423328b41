"""What a session's statement waits for, asked through another session.

A session that hangs in a commit cannot tell why, and neither can the task that waits for it. `held_up` knows
which sessions of this process wait.
"""

from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from walvec.config.masking import printable
from walvec_slots.queries import load_sql

# Seconds that a statement may wait before it counts as holding up the process.
HELD_UP_AFTER: Final = 3.0

# Seconds for which a reason seen during a statement may explain why it failed.
FRESH: Final = 5.0

_QUERIES = load_sql("session.sql")


@dataclass(frozen=True, slots=True)
class WaitingStatement:
    """A statement as the server sees it; None stands for nothing, or not known.

    `event` is written "type: event". `holders` are the sessions that hold the lock it waits for. `seconds` is
    how long it has been running.
    """

    at_work: bool
    event: str | None
    holders: list[str] | None
    seconds: float | None

    def reason(self) -> str | None:
        """Say what it waits for where others hold it up; None while it is at work."""
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
    """Ask the server what a session's statement waits for.

    Returns None where there is no such session.
    """
    cursor = connection.cursor(row_factory=class_row(WaitingStatement))
    await cursor.execute(_QUERIES["waits_for"], {"pid": pid})
    return await cursor.fetchone()


async def look_at_process(connection: psycopg.AsyncConnection[Any], pid: int) -> WaitingStatement | None:
    """Ask what the process whose session holds the fence waits for in the target.

    Of its statements, this is the one that has been waiting longest for something that the server can name.
    """
    cursor = await connection.execute(_QUERIES["writing_sessions"], {"pid": pid})
    pids = [pid, *(writer for (writer,) in await cursor.fetchall())]
    seen = [statement for other in pids if (statement := await look_at_statement(connection, other))]
    return max(seen, key=lambda found: (found.reason() is not None, found.seconds or 0.0), default=None)


class HeldUp:
    """Which sessions of this process were seen waiting, since when, and for what."""

    def __init__(self) -> None:
        # By session: since when, and for what.
        self._waiting: dict[int, tuple[float, str]] = {}
        self._last: tuple[float, str] | None = None

    def note(self, session: int, since: float, reason: str) -> None:
        """Note what a session waits for, and since when by the monotonic clock."""
        self._waiting[session] = since, reason
        self._last = monotonic(), reason

    def end(self, session: int) -> None:
        """Note that a session no longer waits."""
        self._waiting.pop(session, None)

    def reason(self) -> str | None:
        """Say what holds up this process; None where nothing is known to."""
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


# The one of this process.
held_up: Final = HeldUp()
