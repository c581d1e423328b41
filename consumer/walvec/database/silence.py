"""A session that does not wait forever on a server gone silent.

Behind some proxies and firewalls a cut cable looks like a server at work: what is sent is acknowledged,
nothing comes back, and the box in between answers the kernel's keepalives. So a statement that has had no
answer for a while (`Patience`) is looked into: another session asks the server whether it is still at work on
it. If it is not, or nothing answers there either, the session is hung up, and the statement ends as it does
when a connection breaks.
"""

import asyncio
import os
import socket
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
import structlog
from psycopg.abc import PQGen

from walvec.database.waiting import WaitingStatement, held_up, look_at_statement

# Seconds without an answer until a statement is looked into; each further look waits twice as long.
NOTICE_AFTER = 1.0

# Seconds until a reason that lasts is logged again.
SAY_AGAIN = 60.0

# Seconds for a server to take note that a statement is cancelled.
CANCEL_LIMIT = 1.0

_log = structlog.get_logger(__name__)

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a session waits for its server, in seconds."""

    # Without an answer for this long, a server that is not at work on the statement has gone silent.
    answer: float = 30.0

    # Another session has this long to find out whether it is.
    question: float = 15.0


PATIENCE: Final = Patience()


class Session(psycopg.AsyncConnection[Any]):
    """psycopg's connection, which hangs up when its server has gone silent."""

    # What the other session is opened with, password included; "" until `ask_through`.
    _conninfo = ""
    _patience = PATIENCE

    # By the event loop's clock.
    _waiting_since: float | None = None

    # When a reason was logged last, and which.
    _said: tuple[float, str] | None = None

    # One timer serves many waits: these are short, and a statement has several.
    _alarm: asyncio.TimerHandle | None = None
    _looking: asyncio.Task[None] | None = None

    def ask_through(self, conninfo: str, patience: Patience) -> None:
        """Set how to open the session that asks about a statement, and when."""
        self._conninfo = conninfo
        self._patience = patience

    async def wait(
        self,
        gen: PQGen[_Answer],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> _Answer:
        """Wait for an answer, or until the session is hung up."""
        loop = asyncio.get_running_loop()
        self._waiting_since = loop.time()
        if self._alarm is None:
            self._alarm = loop.call_later(NOTICE_AFTER, self._look_up)
        try:
            return await super().wait(gen, interval, timeout)
        finally:
            self._waiting_since = None
            if self._looking:
                self._looking.cancel()
                self._looking = None
                held_up.end(id(self))

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109
        """Ask the server to give up the statement; hang up where it does not respond."""
        try:
            await super().cancel_safe(timeout=min(timeout, CANCEL_LIMIT))
        except psycopg.Error:
            self.hang_up()
            raise

    async def _ask(self) -> WaitingStatement | None:
        """Ask through another session what the server is doing with the statement.

        Returns None where there is no answer. A server that answers anything at all, such as that it has too
        many connections, counts as at work.
        """
        try:
            async with asyncio.timeout(self._patience.question):
                other = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
                async with other:
                    return await look_at_statement(other, self.info.backend_pid)
        except (TimeoutError, psycopg.errors.ConnectionTimeout):
            return None
        except psycopg.Error:
            return WaitingStatement(at_work=True, event=None, holders=None, seconds=None)

    def hang_up(self) -> None:
        """End the connection from this side, so that a wait for its answer fails."""
        with socket.socket(fileno=os.dup(self.pgconn.socket)) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)

    def _look_up(self) -> None:
        """Look into the statement that waits, if it has waited long enough."""
        self._alarm = None
        if self._waiting_since is None:
            return
        loop = asyncio.get_running_loop()
        patience = self._waiting_since + NOTICE_AFTER - loop.time()
        if patience > 0:
            self._alarm = loop.call_later(patience, self._look_up)
        else:
            self._looking = loop.create_task(self._look_into(), name="look into a silent session")

    async def _look_into(self) -> None:
        """Ask about the statement again and again; hang up once the server is silent."""
        loop, pause = asyncio.get_running_loop(), min(NOTICE_AFTER, self._patience.answer)
        began = loop.time() - NOTICE_AFTER
        while True:
            seen = await self._ask()
            waited = loop.time() - began
            if waited >= self._patience.answer and not (seen and seen.at_work):
                break
            self._note(seen, waited)
            pause = min(2 * pause, self._patience.answer)
            await asyncio.sleep(pause)
        _log.warning(
            "session.silent",
            database=self.info.dbname,
            session=self.info.parameter_status("application_name"),
        )
        self.hang_up()

    def _note(self, seen: WaitingStatement | None, waited: float) -> None:
        """Note, and log now and then, what the statement waits for.

        What the backfill's own session waits for does not hold up the rest of the process: an index may take
        hours to build. It is logged only.
        """
        reason = seen.reason() if seen else None
        name = self.info.parameter_status("application_name")
        now = monotonic()
        if reason is None:
            held_up.end(id(self))
            return
        if name != "walvec backfill":
            held_up.note(id(self), now - waited, reason)
        if self._said is None or self._said[1] != reason or now - self._said[0] >= SAY_AGAIN:
            self._said = now, reason
            _log.warning(
                "statement.held_up",
                what=reason,
                session=name,
                database=self.info.dbname,
                seconds=round(waited, 1),
                hint="nothing is lost; the statement goes on by itself once the wait is over",
            )
