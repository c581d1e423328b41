"""A connection pooler, as small as one can be: its clients take turns on one session of the server.

It answers a client's startup packet by itself, passes nothing of it on, and resets nothing between clients.
So whatever one leaves behind on the session, the next one finds.

    with Pooler(dsn) as pooler:
        psycopg.connect(pooler.dsn)
        pooler.left_behind()    # settings and locks that its clients left on the session
"""

import select
import socket
import struct
import threading
from contextlib import suppress
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

_CANCEL, _SSL, _GSS = 80877102, 80877103, 80877104
_REPORTED = ("server_version", "server_encoding", "client_encoding", "standard_conforming_strings")
_PIECE = 65_536


class Pooler:
    """Listens on loopback while its block lasts.

    `honest` passes the server's own process id on, as a pooler may by chance; `strict` refuses a startup
    packet that has options in it, as PgBouncer does unless it is told to ignore them.
    """

    def __init__(self, dsn: str, *, honest: bool = False, strict: bool = False) -> None:
        self._server = psycopg.connect(dsn, autocommit=True)
        self._honest, self._strict = honest, strict
        self._turn = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = make_conninfo(
            dsn, host="127.0.0.1", hostaddr="127.0.0.1", port=self._listener.getsockname()[1]
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        with self._turn:
            self._server.close()

    def left_behind(self) -> list[Any]:
        """Return what clients have left on the server's session: settings, then advisory locks."""
        with self._turn:
            settings = self._server.execute(
                "SELECT name FROM pg_settings WHERE source = 'session'"
            ).fetchall()
            locks = self._server.execute(
                "SELECT locktype FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'"
            ).fetchall()
        return [name for (name,) in settings + locks]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, EOFError):
            if (packet := _startup(client)) is None:
                return
            if self._strict and b"options\0" in packet:
                words = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
                client.sendall(_message(b"E", words))
                return
            client.sendall(self._welcome())
            with self._turn:
                self._relay(client)

    def _welcome(self) -> bytes:
        info = self._server.info
        reported = [_message(b"S", f"{name}\0{info.parameter_status(name)}\0".encode()) for name in _REPORTED]
        pid = info.backend_pid if self._honest else info.backend_pid ^ 0x5555
        key = _message(b"K", struct.pack("!ii", pid, 42))
        return b"".join([_message(b"R", struct.pack("!i", 0)), *reported, key, _message(b"Z", b"I")])

    def _relay(self, client: socket.socket) -> None:
        """Pass messages on until the client is done; its farewell is not for the server."""
        with socket.socket(fileno=self._server.pgconn.socket) as server:
            try:
                while True:
                    for ready in select.select([client, server], [], [])[0]:
                        if ready is server:
                            client.sendall(_some(server))
                        elif (message := _read_message(client))[:1] == b"X":
                            return
                        else:
                            server.sendall(message)
            finally:
                _drain(server)
                server.detach()


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _startup(client: socket.socket) -> bytes | None:
    """Return the startup packet, after saying no to encryption; None for a request to cancel."""
    while True:
        (length,) = struct.unpack("!i", _exactly(client, 4))
        packet = _exactly(client, length - 4)
        (code,) = struct.unpack("!i", packet[:4])
        if code == _CANCEL:
            return None
        if code not in (_SSL, _GSS):
            return packet
        client.sendall(b"N")


def _read_message(client: socket.socket) -> bytes:
    head = _exactly(client, 5)
    (length,) = struct.unpack("!i", head[1:])
    return head + _exactly(client, length - 4)


def _some(peer: socket.socket) -> bytes:
    try:
        if data := peer.recv(_PIECE, socket.MSG_DONTWAIT):
            return data
    except BlockingIOError:
        return b""
    raise EOFError


def _drain(server: socket.socket) -> None:
    """Read what is still to come for a client that left without it, so that the next one does not get it."""
    server.sendall(_message(b"S", b"") + _message(b"Q", b"SELECT 'drained'\0"))
    replies = b""
    while not (b"drained" in replies and replies[-6:-1] == b"Z\0\0\0\5"):
        select.select([server], [], [])
        replies += _some(server)


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (piece := peer.recv(size - len(data))):
            raise EOFError
        data += piece
    return data
