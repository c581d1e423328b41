"""A walsender session on libpq and asyncio: connect, run a command, copy.

The one module that holds the replication socket; `stream.py` decides what passes through it. psycopg has no
replication, so after connecting this uses libpq through `psycopg.pq`:
https://www.postgresql.org/docs/current/libpq-copy.html
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from walvec_slots.errors import ConnectionLost, PreconditionFailed
from walvec_slots.rights import grant_replication
from walvec_slots.settle import open_session, standby_hint

# How long to wait for the server to release the slot.
CLOSE_TIMEOUT: Final = 1.0  # seconds

# A peer that vanished without a word is noticed within two minutes, not after the two hours of the kernel's
# defaults.
_CONNECTION_DEFAULTS: Final[Mapping[str, str]] = {
    "fallback_application_name": "walvec",
    "keepalives_idle": "30",  # seconds
    "keepalives_interval": "10",  # seconds
    "keepalives_count": "6",
    "tcp_user_timeout": "90000",  # milliseconds
}

_NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})


class CommandFailed(Exception):
    """The server answered with an error, or ended the copy.

    `sqlstate` is empty if the server gave none.
    """

    def __init__(self, result: pq.abc.PGresult | None) -> None:
        field = pq.DiagnosticField
        self.sqlstate = _field(result, field.SQLSTATE)
        # The detail is shown too: from a walsender it is about the slot, never about rows.
        texts = (_field(result, field.MESSAGE_PRIMARY), _field(result, field.MESSAGE_DETAIL))
        super().__init__(": ".join(filter(None, texts)) or "the server ended it")


class Notice(NamedTuple):
    """A notice or warning that the server sends beside the stream."""

    severity: str
    sqlstate: str
    message: str


class Walsender:
    """One session.

    One task may receive while another puts. Where the connection breaks, psycopg.Error is raised.
    """

    def __init__(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._conn = conn
        self._pgconn = conn.pgconn
        self._putting = asyncio.Lock()
        # What `readable` waits for, and the socket that is watched meanwhile.
        self._waiter: asyncio.Future[None] | None = None
        self._watched = -1
        self._closed = False

    @classmethod
    async def connect(
        cls,
        conninfo: str,
        *,
        on_notice: Callable[[Notice], None],
        sender_timeout: float,
        settings: Mapping[str, str] = _NO_SETTINGS,
    ) -> Self:
        """Open a session, with every setting pinned that shapes values or could end it.

        `settings` are pinned besides. Raises PreconditionFailed if the role may not replicate or a pooler is
        in between, ConnectionLost if no connection can be made.
        """
        try:
            conn = await open_session(
                psycopg.AsyncConnection,
                make_conninfo("", **{**_CONNECTION_DEFAULTS, **conninfo_to_dict(conninfo)}),
                {**settings, "wal_sender_timeout": f"{round(sender_timeout * 1000)}ms"},
                replication="database",
                prepare_threshold=None,
                # A walsender takes simple queries only.
                cursor_factory=psycopg.AsyncClientCursor,
            )
        except psycopg.Error as error:
            raise _unreachable(error) from error
        conn.add_notice_handler(
            lambda diag: on_notice(
                Notice(diag.severity_nonlocalized or "", diag.sqlstate or "", diag.message_primary or "")
            )
        )
        return cls(conn)

    @property
    def backend_pid(self) -> int:
        """The process id of this session's server process."""
        return self._pgconn.backend_pid

    @property
    def session(self) -> psycopg.AsyncConnection[Any]:
        """The session as psycopg knows it, for simple statements until a copy begins."""
        return self._conn

    async def copy(self, command: bytes) -> None:
        """Run a command that begins a copy in both directions.

        Raises CommandFailed if it does not; the session is then ready for another command.
        """
        self._pgconn.send_query(command)
        await self._flush()
        result = await self._result()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            while await self._result() is not None:
                pass
            raise CommandFailed(result)

    def receive(self, limit: int) -> list[memoryview]:
        """Return what has arrived, without waiting, up to about `limit` bytes.

        It takes what libpq holds, then reads the socket. Raises CommandFailed where the copy ends; what came
        with its end is dropped.
        """
        if self._closed:
            raise psycopg.OperationalError("it was closed on this side")
        pgconn = self._pgconn
        received: list[memoryview] = []
        dry = False
        while limit > 0:
            # Never get_copy_data(0), which waits: the C implementation would hold the GIL meanwhile.
            size, data = pgconn.get_copy_data(1)
            if size > 0:
                received.append(data)
                limit -= size
                dry = False
            elif size < 0:
                raise CommandFailed(pgconn.get_result())
            elif dry:
                break
            else:
                self._consume()
                dry = True
        return received

    async def readable(self) -> None:
        """Wait until there may be something to receive.

        Call it only after `receive` returned nothing.
        """
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        self._watched = self._pgconn.socket
        waiter.get_loop().add_reader(self._watched, self._wake)
        try:
            await waiter
        finally:
            if self._waiter is waiter:
                self._wake()

    async def put(self, data: bytes) -> None:
        """Send one message, waiting for the socket to take it.

        Nothing need be received meanwhile: a walsender that cannot write still reads.
        """
        async with self._putting:
            try:
                while self._pgconn.put_copy_data(data) == 0:
                    await self._writable()
                await self._flush()
            except psycopg.Error:
                # Stop watching before any other task runs: libpq may have closed the socket.
                self._wake()
                raise

    async def close(self) -> None:
        """End the copy and the session.

        The server has then released the slot, unless it was too busy. Safe to repeat. A task that waits to
        receive is woken, and finds the session closed.
        """
        self._closed = True
        self._wake()
        try:
            with suppress(psycopg.Error, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT), self._putting:
                    self._pgconn.put_copy_end()
                    await self._flush()
                    await self._released()
        finally:
            self._wake()
            await self._conn.close()

    def _consume(self) -> None:
        try:
            self._pgconn.consume_input()
        except psycopg.OperationalError:
            # The socket is gone, but libpq may have received the reason that the server gave.
            while (size := self._pgconn.get_copy_data(1)[0]) > 0:
                pass
            if size == 0:
                raise
            raise CommandFailed(self._pgconn.get_result()) from None

    async def _released(self) -> None:
        """Receive until the server's last message, sent after it released the slot."""
        while (size := self._pgconn.get_copy_data(1)[0]) >= 0:
            if size == 0:
                await self.readable()
                self._pgconn.consume_input()
        while await self._result() is not None:
            pass

    async def _result(self) -> pq.abc.PGresult | None:
        while self._pgconn.is_busy():
            await self.readable()
            self._pgconn.consume_input()
        return self._pgconn.get_result()

    async def _flush(self) -> None:
        while self._pgconn.flush() == 1:
            # With no room to write libpq reads, and what it holds no longer makes the socket readable.
            self._wake()
            await self._writable()

    async def _writable(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        socket = self._pgconn.socket
        waiter.get_loop().add_writer(socket, _resolve, waiter)
        try:
            await waiter
        finally:
            waiter.get_loop().remove_writer(socket)

    def _wake(self) -> None:
        """Stop watching the socket, and let the task that waits to receive look again."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.get_loop().remove_reader(self._watched)
            _resolve(waiter)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _field(result: pq.abc.PGresult | None, field: pq.DiagnosticField) -> str:
    text = result.error_field(field) if result else None
    return (text or b"").decode(errors="replace")


def _unreachable(error: psycopg.Error) -> ConnectionLost | PreconditionFailed:
    """Return the error for a session that could not be opened.

    A role that may not replicate is recognized by the text, because libpq has no SQLSTATE before a session
    begins.
    """
    text = " ".join(str(error).split())
    if "walsender" in text.lower().replace(" ", ""):
        role = error.pgconn.user.decode() if error.pgconn else ""
        return PreconditionFailed(text, hint=grant_replication(role))
    return ConnectionLost(f"Could not connect for replication: {text}", hint=standby_hint(text))
