import asyncio
from contextlib import suppress

from walvec_slots.lsn import Lsn
from walvec_slots.protocol import StandbyStatus
from walvec_slots.stream import ReplicationStream, feedback

NOTHING = StandbyStatus(Lsn(0), Lsn(0), Lsn(0))


class Recorder(ReplicationStream):
    """A stream that notes when a status would have been sent."""

    def __init__(self) -> None:
        self.sent: list[float] = []

    async def send(self, status: StandbyStatus) -> None:
        """Note the time."""
        self.sent.append(asyncio.get_running_loop().time())


async def times(interval: float, poke: asyncio.Event, seconds: float) -> list[float]:
    """Run feedback for some time; return when it sent a status."""
    recorder = Recorder()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await feedback(recorder, lambda: NOTHING, interval, poke)
    return recorder.sent


async def test_the_first_status_goes_out_at_once() -> None:
    """The first status is sent at once, for a server that waits already."""
    assert len(await times(10.0, asyncio.Event(), 0.05)) == 1


async def test_unasked_a_status_goes_out_every_interval() -> None:
    """A status is sent every interval, because silence would end the connection."""
    assert 2 <= len(await times(0.1, asyncio.Event(), 0.7)) <= 4


async def test_a_poke_is_answered_soon() -> None:
    """A poke is answered long before the interval is over."""
    poke = asyncio.Event()
    asyncio.get_running_loop().call_later(0.15, poke.set)
    assert len(await times(10.0, poke, 0.4)) == 2


async def test_a_poke_that_comes_right_after_a_status_is_not_lost() -> None:
    """What is committed after a status is told soon, and not an interval later."""
    poke = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, poke.set)
    assert len(await times(10.0, poke, 0.3)) == 2


async def test_pokes_without_end_are_answered_ten_times_a_second() -> None:
    """Statuses are ten a second at most, however often the server asks."""
    poke = asyncio.Event()

    async def insist() -> None:
        while True:
            poke.set()
            await asyncio.sleep(0)

    insisting = asyncio.create_task(insist())
    sent = await times(10.0, poke, 0.55)
    insisting.cancel()
    assert 4 <= len(sent) <= 6
