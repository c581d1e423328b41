import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus

import pytest

from walvec.observe import health
from walvec.observe.health import HttpResponse, routes, serving, serving_in_turn, why_not_ready
from walvec.observe.http import MAX_LINE
from walvec.observe.telemetry import Telemetry
from walvec.stages.vitals import Vitals
from walvec_slots.errors import PreconditionFailed
from walvec_slots.lsn import Lsn

Address = tuple[str, int]


def broken() -> HttpResponse:
    """Fail as an answer that cannot be made."""
    raise ValueError("canary")


@pytest.fixture
async def address(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Address]:
    """Yield the address of a server with all routes, and one that fails."""
    monkeypatch.setattr(health, "TIME_LIMIT", 0.3)
    answers = {**routes(Telemetry("hashing"), asyncio.Event()), "/broken": broken}
    async with serving(("127.0.0.1", 0), answers) as address:
        yield address


async def exchange(address: Address, request: bytes) -> bytes:
    """Send bytes and return all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def status(answer: bytes) -> int:
    """Return the status of an answer."""
    return int(answer.split()[1])


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        (b"GET /livez HTTP/1.1", 200),
        (b"GET /livez HTTP/1.0", 200),
        (b"GET /livez?verbose=1 HTTP/1.1", 200),
        (b"GET /readyz HTTP/1.1", 503),
        (b"GET /metrics HTTP/1.1", 200),
        (b"GET / HTTP/1.1", 404),
        (b"GET /livez/ HTTP/1.1", 404),
        (b"GET /../etc/passwd HTTP/1.1", 404),
        (b"HEAD /livez HTTP/1.1", 405),
        (b"POST /livez HTTP/1.1", 405),
        (b"GET /broken HTTP/1.1", 500),
        (b"GET livez HTTP/1.1", 400),
        (b"GET /livez", 400),
        (b"GET /livez HTTP/2.0", 400),
        (b"get /livez HTTP/1.1", 400),
        (b"GET /\xff HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"", 400),
    ],
)
async def test_answers_by_the_request_line(address: Address, request_line: bytes, expected: int) -> None:
    """Only GET of a known path is answered with 200, and every connection is closed."""
    answer = await exchange(address, request_line + b"\r\nHost: walvec\r\n\r\n")
    assert status(answer) == expected
    assert b"Connection: close" in answer
    assert b"canary" not in answer


async def test_head_has_no_body(address: Address) -> None:
    """The answer to HEAD has no body, as HTTP requires, and names the allowed method."""
    answer = await exchange(address, b"HEAD /livez HTTP/1.0\r\n\r\n")
    assert b"\r\nAllow: GET\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_length_is_the_bodys(address: Address) -> None:
    """Content-Length counts the bytes after the head."""
    head, body = (await exchange(address, b"GET /metrics HTTP/1.0\r\n\r\n")).split(b"\r\n\r\n", 1)
    assert f"Content-Length: {len(body)}\r\n".encode() in head


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nX: " + b"x" * 2 * MAX_LINE,
        b"GET /livez HTTP/1.1\r\n" + b"x" * 2 * MAX_LINE + b": x",
        b"GET /livez?" + b"x" * 2 * MAX_LINE + b" HTTP/1.1",
    ],
    ids=["value", "name", "target"],
)
async def test_long_request_is_refused(address: Address, head: bytes) -> None:
    """A line longer than the limit is refused with a 431."""
    answer = await exchange(address, head + b"\r\n\r\n")
    assert status(answer) == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\n" + b"X: x\r\n" * 100,
        b"GET /livez HTTP/1.1\r\nX: " + b"x" * 1_000_000,
        b"GET /livez HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"GET /livez HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n",
        b"GET /livez HTTP/1.1\r\nContent-Length: -1\r\n",
        b"GET /livez HTTP/1.1\r\nX : x\r\n",
        b"GET /livez HTTP/1.1\r\nX: a\0b\r\n",
    ],
    ids=["headers", "huge", "two-ways", "two-lengths", "negative", "space", "nul"],
)
async def test_doubtful_request_is_not_answered(address: Address, head: bytes) -> None:
    """A doubtful request gets a refusal or nothing, and no line in the log."""
    answer = await exchange(address, head + b"\r\nabc")
    assert not answer or status(answer) in {400, 431}


async def test_one_answer_a_connection(address: Address) -> None:
    """A second request behind the first, or smuggled in its body, is not answered."""
    first = b"GET /livez HTTP/1.1\r\nHost: a\r\n"
    second = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"
    for between in (
        b"\r\n",
        b"Content-Length: %d\r\n\r\n" % len(second),
        b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ):
        assert (await exchange(address, first + between + second)).count(b"HTTP/1.") == 1


@pytest.mark.parametrize("beginning", [b"", b"GET /livez HTT"])
async def test_slow_client_is_cut_off(address: Address, beginning: bytes) -> None:
    """A request that never ends gets no answer, and others are answered meanwhile."""
    slow = asyncio.create_task(exchange(address, beginning))
    await asyncio.sleep(0)
    assert status(await exchange(address, b"GET /livez HTTP/1.0\r\n\r\n")) == HTTPStatus.OK
    assert await slow == b""


async def test_a_crowd_that_says_nothing_makes_room(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client is answered however many silent ones connect; the oldest ends first."""
    crowd = []
    for number in range(5 * health.MAX_CONNECTIONS):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /livez HTTP/1.1\r\nX:" * (number % 2))
        crowd.append((reader, writer))
        if number % health.MAX_CONNECTIONS == 0:
            assert status(await exchange(address, b"GET /livez HTTP/1.0\r\n\r\n")) == HTTPStatus.OK
    reader, _ = crowd[0]
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    for _, writer in crowd:
        writer.close()


async def test_client_that_goes_away_harms_nobody(address: Address) -> None:
    """Half a request and a hang-up are not an error."""
    _, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /me")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert status(await exchange(address, b"GET /livez HTTP/1.0\r\n\r\n")) == HTTPStatus.OK


async def test_server_ends_with_its_block_whoever_is_connected() -> None:
    """The process does not wait for a silent client."""
    async with asyncio.timeout(2), serving(("127.0.0.1", 0), {}) as address:
        reader, writer = await asyncio.open_connection(*address)
        await asyncio.sleep(0.05)
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_port_in_use_is_named() -> None:
    """The error names address and reason, and its hint the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PreconditionFailed) as raised:
            async with serving(("127.0.0.1", port), {}):
                pass
    assert raised.value.what == f"Cannot listen on 127.0.0.1:{port}: port in use"
    assert "[http] listen" in str(raised.value.hint)


async def test_host_that_does_not_exist_is_named() -> None:
    """A host name that does not exist is a failed precondition too."""
    with pytest.raises(PreconditionFailed, match=r"nowhere\.invalid:9187"):
        async with serving(("nowhere.invalid", 9187), {}):
            pass


def test_reason_is_one_line_and_tells_no_secret() -> None:
    """An error's text is masked as in the log, and is one line."""
    telemetry = Telemetry("hashing")
    telemetry.detached("trying again: no\nconnection to postgresql://me:canary@host/app")
    why = why_not_ready(telemetry)
    assert why
    assert "\n" not in why
    assert "canary" not in why


@pytest.mark.parametrize(
    ("max_lag", "lag_seconds", "why"),
    [
        (0.0, 9_999.0, None),
        (60.0, 60.0, None),
        (60.0, 61.4, "the oldest commit that is not embedded is 61 s old; [http] max_lag is 60 s"),
        (60.0, None, None),
    ],
)
def test_lag_that_is_allowed(max_lag: float, lag_seconds: float | None, why: str | None) -> None:
    """The process is not ready past max_lag; 0 and an unknown lag never count."""
    telemetry = Telemetry("hashing")
    telemetry.attached(lambda: replace(vitals(), lag_seconds=lag_seconds))
    assert why_not_ready(telemetry, max_lag) == why


def vitals() -> Vitals:
    """Return the vitals of a healthy attachment."""
    return Vitals(
        received=Lsn(2),
        saved=Lsn(1),
        confirmed=Lsn(1),
        lag_seconds=0.0,
        stalled_for=0.0,
        write_failure=None,
        buffered=0,
        in_flight={},
        queued={},
        backfills={},
        paused=[],
        slot=None,
        dead_letters=None,
    )


def test_servers_are_imported_for_the_server_only() -> None:
    """A process that serves nothing imports neither server nor metrics client."""
    code = (
        "import sys, walvec.supervise; sys.exit(len({'prometheus_client', 'aiohttp'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_port_is_taken_over_once_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walvec that stands by for another one serves when that one has gone."""
    monkeypatch.setattr(health, "PORT_INTERVAL", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address: Address = taken.getsockname()
        async with serving_in_turn(address, {"/livez": lambda: HttpResponse(HTTPStatus.OK, b"alive")}):
            taken.close()
            async with asyncio.timeout(5):
                while not (answer := await attempt(address)):
                    pass
    assert answer.endswith(b"alive")


async def attempt(address: Address) -> bytes:
    """Return the answer of /livez; nothing while no server listens."""
    try:
        return await exchange(address, b"GET /livez HTTP/1.0\r\n\r\n")
    except ConnectionRefusedError:
        return b""
