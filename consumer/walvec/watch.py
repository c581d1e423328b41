"""What changes beside the stream: tables, publication, epochs that a command begins, the slot's WAL.

Whatever differs ends the attachment: everything that was derived from it is derived again by the next one.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic

import structlog

from walvec.attach import Attachment
from walvec.database.dead_letters import count_parked, load_retries
from walvec.database.registry import begin_epoch, load_generations
from walvec.errors import CatalogChanged, ConfigInvalid, EpochEnded
from walvec.stages.actions import REFETCH
from walvec.stages.lane import Lane
from walvec.stages.parking import Retries
from walvec.stages.vitals import LastLook
from walvec.vectorizer.admission import bind_vectorizer
from walvec.vectorizer.bind import bind
from walvec.vectorizer.binding import Binding
from walvec_slots.errors import PreconditionFailed
from walvec_slots.lsn import Lsn
from walvec_slots.manage import find_slot

INTERVAL, LONGEST_INTERVAL = 2.0, 60.0  # seconds between two looks
SHARE = 0.05  # of the time that looking may take
RETRY_ROWS = 1_000  # parked rows that are tried again at a time
RETAINED_BYTES = 1 << 30  # of WAL kept back by the slot, from which it is said, and again at each doubling

_log = structlog.get_logger(__name__)


class Watch:
    """Looks at both databases every INTERVAL seconds."""

    def __init__(
        self,
        attachment: Attachment,
        lanes: Mapping[str, Lane],
        last_look: LastLook,
    ) -> None:
        """Compare with what `attachment` found, and give `lanes` the rows that are to be tried again.

        `last_look` is kept as what was seen last, for whoever shows it.
        """
        self._attachment = attachment
        self._config = attachment.config
        self._lanes = lanes
        self._last_look = last_look
        self._said_retained = RETAINED_BYTES
        self._retries = Retries()

    async def run(self) -> None:
        """Look again and again. Raises CatalogChanged where the attachment has to be made anew."""
        took = 0.0
        while True:
            # Many tables take longer to look at, and are looked at less often for it.
            await asyncio.sleep(min(max(INTERVAL, took / SHARE), LONGEST_INTERVAL))
            began = monotonic()
            await self._look_for_epochs()
            await self.look_for_retries()
            for binding in self._attachment.vectorizers.bindings.values():
                await self._look_at_table(binding)
            for name in self._attachment.vectorizers.paused:
                await self._look_for_mending(name)
            await self._look_at_slot()
            await self._count_dead_letters()
            took = monotonic() - began

    async def look_for_retries(self) -> None:
        """Put parked rows back into work that a command wants tried again, or whose cause may have passed.

        They are read again, as they are now.
        """
        asked = await load_retries(self._attachment.lookups, list(self._lanes), limit=RETRY_ROWS)
        for letter in self._retries.fresh(asked):
            self._lanes[letter.vectorizer].push(letter.key, REFETCH)

    @property
    def retrying(self) -> bool:
        """Whether parked rows were at work again at the last look."""
        return self._retries.at_work

    async def changes_lost(self, received: Lsn) -> None:
        """Begin a new epoch for every vectorizer that may lack changes which the stream has left out.

        `received` is how far the stream was before it said so. An epoch with a horizon past that place
        compares every row as it was after the loss. Raises EpochEnded where one has begun.
        """
        states = self._attachment.vectorizers.states.values()
        for state in (lacking := [state for state in states if state.horizon_lsn <= received]):
            await begin_epoch(self._attachment.lookups, state.name, state.slot, state.fingerprint)
        if lacking:
            raise EpochEnded(lacking[0].name)

    async def _look_for_epochs(self) -> None:
        """Notice an epoch that a command has begun: nothing more would be written for the one before."""
        generations = await load_generations(self._attachment.lookups, self._config.source.slot)
        for name, state in self._attachment.vectorizers.states.items():
            if generations.get(name) != state.generation:
                raise EpochEnded(name)

    async def _look_at_table(self, binding: Binding) -> None:
        """Compare the catalog with what the lane is bound to."""
        try:
            now = await bind(self._attachment.catalog, binding.vectorizer, self._config.source.publication)
        except (PreconditionFailed, ConfigInvalid) as error:
            raise CatalogChanged(error.what) from error
        if now.identity() != binding.identity():
            raise CatalogChanged(f'vectorizer "{binding.name}": its table or the publication has changed')

    async def _look_for_mending(self, name: str) -> None:
        """Attach again once a paused vectorizer can be bound, and its target is as it has to be."""
        vectorizer = self._config.vectorizer(name)
        if vectorizer is None:
            return
        try:
            await bind_vectorizer(
                self._config,
                vectorizer,
                self._attachment.plugin,
                self._attachment.catalog,
                self._attachment.lookups,
            )
        except (PreconditionFailed, ConfigInvalid):
            return
        raise CatalogChanged(f'vectorizer "{name}" can follow its table again')

    async def _look_at_slot(self) -> None:
        """Say when the WAL that the slot keeps back becomes much, or the server is about to remove it."""
        slot = await find_slot(self._attachment.catalog, self._config.source.slot)
        self._last_look.slot = slot
        if slot is None or slot.retained_bytes is None:
            return
        if slot.retained_bytes < RETAINED_BYTES and slot.wal_status != "unreserved":
            self._said_retained = RETAINED_BYTES
        elif slot.retained_bytes >= self._said_retained or slot.wal_status == "unreserved":
            self._said_retained = max(2 * slot.retained_bytes, RETAINED_BYTES)
            _log.warning(
                "the slot keeps much WAL back",
                slot=slot.name,
                retained_bytes=slot.retained_bytes,
                safe_wal_bytes=slot.safe_wal_size,
                wal_status=slot.wal_status,
                hint="`walvec status` says who is behind; max_slot_wal_keep_size bounds what is kept",
            )

    async def _count_dead_letters(self) -> None:
        parked = await count_parked(self._attachment.lookups)
        names = (*self._lanes, *self._attachment.vectorizers.paused)
        self._last_look.dead_letters = {name: parked.get(name, 0) for name in names}
