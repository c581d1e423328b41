"""Frames from the stream, decoded and routed, as long as there is room."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

import structlog

from walvec.failpoint import failpoint
from walvec.stages.confirm import Confirmation
from walvec.stages.lane import Lane
from walvec.stages.memory import ByteBudget
from walvec.stages.route import Router
from walvec.stages.timing import Timing
from walvec_slots.ack import Ledger
from walvec_slots.plugin import Decoder
from walvec_slots.protocol import Keepalive
from walvec_slots.stream import Frame, ReplicationStream

_log = structlog.get_logger(__name__)


class Intake:
    """Reads the stream of one attachment."""

    def __init__(
        self,
        stream: ReplicationStream,
        decoder: Decoder,
        router: Router,
        confirmation: Confirmation,
        lanes: Collection[Lane],
        ledger: Ledger,
        budget: ByteBudget,
        timing: Timing,
        *,
        changes_lost: asyncio.Event,
        compare: Callable[[], Awaitable[None]],
    ) -> None:
        """Read `stream` while `budget`, which `lanes` fill, has room.

        `compare` is called where the stream says, by `changes_lost`, that it has left changes out.
        """
        self._stream = stream
        self._decoder = decoder
        self._router = router
        self._confirmation = confirmation
        self._lanes = lanes
        self._ledger = ledger
        self._budget = budget
        self._timing = timing
        self._changes_lost = changes_lost
        self._compare = compare

    async def run(self) -> None:
        """Read, decode and route; never return."""
        while True:
            frames = await self._stream.read()
            if self._changes_lost.is_set():
                self._changes_lost.clear()
                await self._compare()
            for frame in frames:
                self._take(frame)
            await self._make_room()

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Keepalive):
            self._confirmation.note_received(frame.wal_end)
            self._router.note_keepalive(frame.wal_end)
            if frame.reply_requested:
                self._confirmation.poke.set()
            return
        self._confirmation.note_received(frame.end)
        message = self._decoder.decode(frame.payload, frame.start)
        failpoint("after-decode")
        if message is not None:
            self._router.route(message)

    async def _make_room(self) -> None:
        """Wait for room; take it from a lane that does not move while others do."""
        while not self._budget.has_room:
            stuck = [lane for lane in self._lanes if lane.is_stuck(self._timing.stuck_after)]
            if len(stuck) < len(self._lanes):
                for lane in stuck:
                    self._shed_queue(lane)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timing.look_interval):
                    await self._budget.wait_for_room()

    def _shed_queue(self, lane: Lane) -> None:
        if not lane.behind:
            lane.shed_queue()
            _log.warning(
                "lane.shed",
                vectorizer=lane.name,
                applied=str(self._ledger.applied(lane.name)),
                hint="the slot keeps WAL back until it moves again",
            )
