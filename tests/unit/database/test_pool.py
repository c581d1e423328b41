import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from psycopg.pq import TransactionStatus

from walvec.database import pool as pools
from walvec.database.pool import SessionPool
from walvec_slots.errors import ConnectionLost
from walvec_slots.settle import Connection


class FakeSession:
    """A session that can be closed, and left in the middle of a transaction."""

    def __init__(self) -> None:
        self.closed = False
        self.info = SimpleNamespace(transaction_status=TransactionStatus.IDLE)

    async def close(self) -> None:
        """Close it."""
        self.closed = True


class Server:
    """Opens sessions until there are `room` of them."""

    def __init__(self, room: int = 99) -> None:
        self.room = room
        self.opened: list[FakeSession] = []

    async def connect(self) -> Connection:
        """Open a session, or refuse it."""
        await asyncio.sleep(0)
        if sum(not session.closed for session in self.opened) >= self.room:
            raise ConnectionLost("too many clients")
        self.opened.append(FakeSession())
        return cast("Connection", self.opened[-1])


class Users:
    """Callers that keep their session until they are let go, in the order in which they got it."""

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool
        self.served: list[int] = []
        self.done = [asyncio.Event() for _ in range(9)]

    async def use(self, number: int) -> None:
        """Use a session."""
        async with self._pool.lease():
            self.served.append(number)
            await self.done[number].wait()


async def turns(count: int = 20) -> None:
    """Let everything else on the loop get on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_sessions_are_opened_when_needed_and_used_again() -> None:
    """One caller after another needs one session."""
    server = Server()
    pool = SessionPool(server.connect, 4)
    for _ in range(3):
        async with pool.lease():
            pass
    assert len(server.opened) == 1


async def test_no_more_than_the_limit_are_open_and_the_first_to_ask_is_served_first() -> None:
    """The third caller of two sessions waits for one of them."""
    server = Server()
    users = Users(SessionPool(server.connect, 2))
    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(users.use(number))
        await turns()
        assert users.served == [0, 1]
        users.done[1].set()
        await turns()
        assert users.served == [0, 1, 2]
        for done in users.done:
            done.set()
    assert len(server.opened) == 2


@pytest.mark.parametrize("room", [1, 2])
async def test_a_refused_session_is_waited_for_in_the_order_of_asking(room: int) -> None:
    """A server short of connections serves every caller in turn."""
    server = Server(room)
    users = Users(SessionPool(server.connect, 4))
    async with asyncio.TaskGroup() as tasks:
        for number in range(6):
            tasks.create_task(users.use(number))
        for number in range(6):
            await turns()
            assert users.served == list(range(min(number + room, 6)))
            users.done[number].set()
    assert len(server.opened) == room


async def test_a_server_that_refuses_the_only_session_is_an_error() -> None:
    """There is nothing to wait for."""
    pool = SessionPool(Server(0).connect, 4)
    with pytest.raises(ConnectionLost):
        async with pool.lease():
            pass


async def test_a_session_with_something_left_undone_is_closed() -> None:
    """The next caller gets another one."""
    server = Server()
    pool = SessionPool(server.connect, 1)
    async with pool.lease() as session:
        cast("FakeSession", session).info.transaction_status = TransactionStatus.INERROR
    async with pool.lease():
        pass
    assert [session.closed for session in server.opened] == [True, False]


async def test_a_caller_that_is_cancelled_leaves_its_place() -> None:
    """Whoever waits behind it is served."""
    server = Server(1)
    users = Users(SessionPool(server.connect, 4))
    async with asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(users.use(number)) for number in range(3)]
        await turns()
        callers[1].cancel()
        users.done[0].set()
        await turns()
        assert users.served == [0, 2]
        users.done[2].set()


async def test_idle_sessions_are_closed_except_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next change finds a session open."""
    monkeypatch.setattr(pools, "IDLE_AFTER", 0.01)
    server = Server()
    pool = SessionPool(server.connect, 3)
    users = Users(pool)
    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(users.use(number))
        await turns()
        for done in users.done:
            done.set()
    closing = asyncio.create_task(pool.close_idle())
    async with asyncio.timeout(10):
        while sum(session.closed for session in server.opened) < 2:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert sum(session.closed for session in server.opened) == 2
    closing.cancel()
    await pool.aclose()
    assert all(session.closed for session in server.opened)
