"""A TCP proxy on loopback that fails the way networks do.

It runs in a thread of the test's process; a subprocess connects through it while the test decides what
becomes of its connections:

    proxy.silence()    # nothing passes any more and nobody is told: a cable pulled, no FIN
    proxy.reset()      # every connection ends in a RST
    proxy.refuse()     # so does every new one, until it is healed
    proxy.delay = 0.2  # seconds that every piece of data is late
    proxy.stall()      # nothing is taken from either side any more: their sockets fill
    proxy.flow()       # until here, where all of it arrives
    proxy.heal()       # new connections pass again; silenced ones never do
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

_PIECE = 65_536  # bytes passed on at a time


class Proxy:
    """Passes connections on to a server; a context manager that starts and stops it."""

    def __init__(self, host: str, port: int) -> None:
        """Pass on to a TCP address, or to PostgreSQL's socket in a directory."""
        self._address = (host, port)
        self._loop = asyncio.new_event_loop()
        self._connections: set[_Connection] = set()
        self._silent = False
        self._refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.delay = 0.0
        self.accepted = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listener.close()

    def silence(self) -> None:
        """Let nothing pass, in either direction, on old connections and new ones."""
        self._do(lambda: setattr(self, "_silent", True))
        for connection in list(self._connections):
            self._do(connection.forget)

    def heal(self) -> None:
        """Let new connections pass.

        The server learns that the silenced ones are gone, as from its kernel's first keepalive probe after a
        cut. The client is told nothing, as by a firewall that has forgotten the connection.
        """
        self._silent = self._refusing = False
        for connection in list(self._connections):
            if connection.forgotten:
                self._do(connection.drop_server)

    def reset(self) -> None:
        """End every connection at once, on both sides, with a RST."""
        for connection in list(self._connections):
            self._do(connection.reset)

    def cut(self) -> None:
        """End every connection on the client's side; until `heal`, the server's sessions stay as they are."""
        for connection in list(self._connections):
            self._do(connection.reset_client)

    def refuse(self) -> None:
        """Reset every connection, and every new one until healed."""
        self._refusing = True
        self.reset()

    def take_little(self) -> None:
        """Let new connections hold little that is on its way, so that they fill soon."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def stall(self) -> None:
        """Take nothing more from either side, until it flows again. What was taken already is kept."""
        self._do(self._flowing.clear)

    def flow(self) -> None:
        """Pass on what was stalled, and all that follows."""
        self._do(self._flowing.set)

    async def let_pass(self) -> None:
        """Wait as long as a piece of data has to."""
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._flowing.wait()

    @property
    def open(self) -> int:
        """How many connections pass data at present."""
        return sum(not connection.forgotten for connection in self._connections)

    def _do(self, action: Callable[[], object]) -> None:
        """Run something in the proxy's own thread, and wait for it."""
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        done.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serving = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()
        serving.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(self, writer)
        self._connections.add(connection)
        try:
            if self._refusing:
                connection.reset()
            elif self._silent:
                connection.forget()
            else:
                server = await self._connect()
                connection.server = server[1]
                await asyncio.gather(
                    connection.pass_on(reader, server[1]), connection.pass_on(server[0], writer)
                )
            # What is forgotten stays open, as a peer behind a cut cable does.
            if connection.forgotten:
                await connection.ended()
        except OSError:
            connection.reset()
        finally:
            self._connections.discard(connection)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._address
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)


class _Connection:
    """One connection of a client, with its twin to the server."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self.server: asyncio.StreamWriter | None = None
        self.forgotten = False
        self._ended = asyncio.Event()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass data on in one direction, to its end."""
        while data := await reader.read(_PIECE):
            await self._proxy.let_pass()
            if self.forgotten:
                continue  # swallowed: the sender's kernel saw it acknowledged, as by a middlebox
            writer.write(data)
            await writer.drain()
        if not self.forgotten:
            writer.close()

    def forget(self) -> None:
        """Pass nothing more on, and tell nobody."""
        self.forgotten = True

    def reset(self) -> None:
        """End both sides with a RST."""
        self.forgotten = False
        self._ended.set()
        _abort(self._client)
        self.drop_server()

    def reset_client(self) -> None:
        """End the client's side with a RST, and do not tell the server."""
        self.forgotten = True
        _abort(self._client)

    def drop_server(self) -> None:
        """End the server's side with a RST."""
        if self.server is not None:
            _abort(self.server)

    async def ended(self) -> None:
        """Wait until it was reset."""
        await self._ended.wait()


def _abort(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # a linger of 0 makes closing send RST
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def through(proxy: Proxy, dsn: str) -> str:
    """Give a connection string that takes the way through the proxy."""
    return make_conninfo(dsn, host="127.0.0.1", hostaddr="127.0.0.1", port=proxy.port)


@pytest.fixture
def proxied() -> Iterator[Callable[[str], tuple[Proxy, str]]]:
    """Give a function that puts a proxy before a server: the proxy, and the connection string through it."""
    proxies: list[Proxy] = []

    def make(dsn: str) -> tuple[Proxy, str]:
        with psycopg.connect(dsn) as connection:
            proxy = Proxy(connection.info.host, connection.info.port)
        proxies.append(proxy.__enter__())
        return proxy, through(proxy, dsn)

    yield make
    for proxy in proxies:
        proxy.__exit__()
