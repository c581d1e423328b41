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

    async def wait(
        self,
        gen: PQGen[Answer],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Answer:
        """Wait for an answer, or until the session is hung up."""
        doubt = _Doubt(self)
        try:
            return await super().wait(gen, interval, timeout)
        finally:
            doubt.cancel()

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


class _Doubt:
    """Comes up after PATIENCE seconds, unless cancelled before."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(PATIENCE, self._begin)

    def cancel(self) -> None:
        self._timer.cancel()
        if self._looking:
            self._looking.cancel()

    def _begin(self) -> None:
        self._looking = self._loop.create_task(self._look(), name="look into a silent session")

    async def _look(self) -> None:
        while await self._session.is_answered():  # noqa: ASYNC110 -- nobody will tell
            await asyncio.sleep(PATIENCE)
        _log.warning(
            "a session is hung up: its server has gone silent",
            database=self._session.info.dbname,
            session=self._session.info.parameter_status("application_name"),
        )
        self._session.hang_up()
