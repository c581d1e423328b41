"""A session that does not wait for ever on a server gone silent.

Behind some proxies and firewalls a cable that is cut looks like a server at work: what is sent is
acknowledged, nothing comes back, and the kernel's keepalives are answered by the box in between. So a
statement that has had no answer for PATIENCE seconds is looked into. Another session asks the server whether
it is still at work on it; if it is not, or nothing answers there either, the session is hung up, and the
statement ends as it does when a connection breaks.
"""

import asyncio
import os
import socket
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.abc import PQGen

from slots.queries import load

PATIENCE = 30.0  # seconds without an answer after which a statement is looked into, and again after each such
QUESTION_LIMIT = 15.0  # seconds for the answer to that
CANCEL_LIMIT = 1.0  # seconds that a server is given to take note that a statement is given up

_QUERIES = load("session.sql")

_log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")


class Session(psycopg.AsyncConnection[Any]):
    """psycopg's connection; `conninfo` is what it was opened with, password included."""

    conninfo = ""
    _waiting_since: float | None = None  # by the event loop's clock
    _alarm: asyncio.TimerHandle | None = None  # one for many waits, which are short and several a statement
    _looking: asyncio.Task[None] | None = None

    async def wait(
        self,
        gen: PQGen[Answer],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Answer:
        """Wait for an answer, or until the session is hung up."""
        loop = asyncio.get_running_loop()
        self._waiting_since = loop.time()
        if self._alarm is None:
            self._alarm = loop.call_later(PATIENCE, self._look_up)
        try:
            return await super().wait(gen, interval, timeout)
        finally:
            self._waiting_since = None
            if self._looking:
                self._looking.cancel()
                self._looking = None

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109
        """Ask the server to give the statement up; where it does not listen, hang up."""
        try:
            await super().cancel_safe(timeout=min(timeout, CANCEL_LIMIT))
        except psycopg.Error:
            self.hang_up()
            raise

    async def is_answered(self) -> bool:
        """Ask, through another session, whether the server still works on this session's statement.

        A server that answers anything at all, say that it has too many connections, is given the benefit.
        """
        try:
            async with asyncio.timeout(QUESTION_LIMIT):
                other = await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)
                async with other:
                    cursor = await other.execute(_QUERIES["is_at_work"], {"pid": self.info.backend_pid})
                    return await cursor.fetchone() == (True,)
        except (TimeoutError, psycopg.errors.ConnectionTimeout):
            return False
        except psycopg.Error:
            return True

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
        patience = self._waiting_since + PATIENCE - loop.time()
        if patience > 0:
            self._alarm = loop.call_later(patience, self._look_up)
        else:
            self._looking = loop.create_task(self._look_into(), name="look into a silent session")

    async def _look_into(self) -> None:
        while await self.is_answered():  # noqa: ASYNC110 -- nobody will tell
            await asyncio.sleep(PATIENCE)
        _log.warning(
            "a session is hung up: its server has gone silent",
            database=self.info.dbname,
            session=self.info.parameter_status("application_name"),
        )
        self.hang_up()
