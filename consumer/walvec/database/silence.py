"""A session that does not wait for ever on a server gone silent.

Behind some proxies and firewalls a cable that is cut looks like a server at work: what is sent is
acknowledged, nothing comes back, and the kernel's keepalives are answered by the box in between. So a
statement that has had no answer for a while (`Patience`) is looked into. Another session asks the server
whether it is still at work on it; if it is not, or nothing answers there either, the session is hung up, and
the statement ends as it does when a connection breaks.
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

NOTICE_AFTER = 1.0  # seconds without an answer after which a statement is looked into; then twice as many
SAY_AGAIN = 60.0  # seconds after which a reason that lasts is logged again
CANCEL_LIMIT = 1.0  # seconds that a server is given to take note that a statement is given up

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
    """psycopg's connection; `conninfo` is what it was opened with, password included."""

    conninfo = ""
    patience = PATIENCE
    _waiting_since: float | None = None  # by the event loop's clock
    _said: tuple[float, str] | None = None  # which reason was logged last, and when
    _alarm: asyncio.TimerHandle | None = None  # one for many waits, which are short and several a statement
    _looking: asyncio.Task[None] | None = None

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
        """Ask the server to give the statement up; where it does not listen, hang up."""
        try:
            await super().cancel_safe(timeout=min(timeout, CANCEL_LIMIT))
        except psycopg.Error:
            self.hang_up()
            raise

    async def _ask(self) -> WaitingStatement | None:
        """Ask, through another session, what the server makes of this session's statement; None: no answer.

        A server that answers anything at all, say that it has too many connections, is given the benefit.
        """
        try:
            async with asyncio.timeout(self.patience.question):
                other = await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)
                async with other:
                    return await look_at_statement(other, self.info.backend_pid)
        except (TimeoutError, psycopg.errors.ConnectionTimeout):
            return None
        except psycopg.Error:
            return WaitingStatement(at_work=True, event=None, holders=None, seconds=None)

    def hang_up(self) -> None:
        """End the connection from this side: whoever waits for an answer is told that it is gone."""
        with socket.socket(fileno=os.dup(self.pgconn.socket)) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)

    def _look_up(self) -> None:
        """See whether the statement that waits has waited for long."""
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
        loop, pause = asyncio.get_running_loop(), min(NOTICE_AFTER, self.patience.answer)
        began = loop.time() - NOTICE_AFTER
        while True:
            seen = await self._ask()
            waited = loop.time() - began
            if waited >= self.patience.answer and not (seen and seen.at_work):
                break
            self._note(seen, waited)
            pause = min(2 * pause, self.patience.answer)
            await asyncio.sleep(pause)
        _log.warning(
            "a session is hung up: its server has gone silent",
            database=self.info.dbname,
            session=self.info.parameter_status("application_name"),
        )
        self.hang_up()

    def _note(self, seen: WaitingStatement | None, waited: float) -> None:
        """Say what the statement waits for, once in a while; that keeps the process from its work.

        Not what the backfill does aside: an index may take hours to build.
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
                "a statement is held up",
                what=reason,
                session=name,
                database=self.info.dbname,
                seconds=round(waited, 1),
                hint="nothing is lost; it goes on by itself once that is over",
            )
