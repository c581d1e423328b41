"""What changes beside the stream: the catalog, epochs, dead letters, retained WAL.

A difference in the catalogs, or an epoch that a command has begun, ends the attachment: everything that was
derived from them is derived again by the next one.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic

import structlog

from walvec.attach import Attachment
from walvec.database.dead_letters import count_parked, load_retries
from walvec.database.registry import begin_epoch, load_generations
from walvec.errors import CatalogChanged, ConfigInvalid, EpochEnded
from walvec.stages.actions import REFETCH
from walvec.stages.lane import Lane
from walvec.stages.parking import Retries
from walvec.stages.timing import Timing
from walvec.stages.vitals import LastLook
from walvec.vectorizer.admission import bind_vectorizer
from walvec.vectorizer.bind import bind
from walvec.vectorizer.binding import Binding
from walvec_slots.errors import PreconditionFailed
from walvec_slots.lsn import Lsn
from walvec_slots.manage import find_slot

# Of the time, which looking may take.
SHARE = 0.05

# Bytes of WAL kept back by the slot, from which there is a warning, and again at each doubling.
RETAINED_BYTES = 1 << 30

_log = structlog.get_logger(__name__)


class Watch:
    """Looks at both databases every few seconds."""

    def __init__(self, attachment: Attachment, lanes: Mapping[str, Lane], timing: Timing) -> None:
        """Compare with what `attachment` found; push rows to be tried again into `lanes`."""
        self._attachment = attachment
        self._sessions = attachment.sessions
        self._config = attachment.config
        self._lanes = lanes
        self._timing = timing
        self._retries = Retries()

        # Retained WAL from which the next warning is due.
        self._warn_at = RETAINED_BYTES

        self.last_look = LastLook()

    async def run(self) -> None:
        """Look again and again.

        Raises CatalogChanged or EpochEnded where the attachment has to be made again.
        """
        took = 0.0
        while True:
            # Many tables take longer to look at, and are looked at less often.
            interval = max(self._timing.watch_interval, took / SHARE)
            await asyncio.sleep(min(interval, self._timing.longest_watch_interval))
            began = monotonic()
            await self._look_for_epochs()
            await self.look_for_retries()
            for binding in self._attachment.vectorizers.bindings.values():
                await self._look_at_table(binding)
            for name in self._attachment.vectorizers.paused:
                await self._look_for_repair(name)
            await self._look_at_slot()
            await self._count_dead_letters()
            took = monotonic() - began

    async def look_for_retries(self) -> None:
        """Have parked rows read again that a command asked for, or that are due."""
        limit = self._timing.retry_rows
        asked = await load_retries(self._sessions.lookups, list(self._lanes), limit=limit)
        for letter in self._retries.newly_asked(asked):
            self._lanes[letter.vectorizer].push(letter.key, REFETCH)

    @property
    def retrying(self) -> bool:
        """Whether parked rows were being tried again at the last look."""
        return self._retries.at_work

    async def compare_after_loss(self, received: Lsn) -> None:
        """Begin a new epoch for every vectorizer that may lack changes.

        The stream has said that it left changes out, and was at `received` before. An epoch with a horizon
        past that place compares every row as it was after the loss. Raises EpochEnded where one has begun.
        """
        states = self._attachment.vectorizers.states.values()
        lacking = [state for state in states if state.horizon_lsn <= received]
        for state in lacking:
            await begin_epoch(self._sessions.lookups, state.name, state.slot, state.fingerprint)
        if lacking:
            raise EpochEnded(lacking[0].name)

    async def _look_for_epochs(self) -> None:
        """Notice an epoch that a command has begun: nothing is written for the one before."""
        generations = await load_generations(self._sessions.lookups, self._config.source.slot)
        for name, state in self._attachment.vectorizers.states.items():
            if generations.get(name) != state.generation:
                raise EpochEnded(name)

    async def _look_at_table(self, binding: Binding) -> None:
        """Compare the catalog with what the lane is bound to."""
        try:
            now = await bind(self._sessions.catalog, binding.vectorizer, self._config.source.publication)
        except (PreconditionFailed, ConfigInvalid) as error:
            raise CatalogChanged(error.what) from error
        if now.identity() != binding.identity():
            raise CatalogChanged(f'Vectorizer "{binding.name}": its table or the publication has changed')

    async def _look_for_repair(self, name: str) -> None:
        """Attach again once a paused vectorizer can be bound and its target fits."""
        vectorizer = self._config.vectorizer(name)
        if vectorizer is None:
            return
        try:
            await bind_vectorizer(
                self._config,
                vectorizer,
                self._attachment.plugin,
                self._sessions.catalog,
                self._sessions.lookups,
            )
        except (PreconditionFailed, ConfigInvalid):
            return
        raise CatalogChanged(f'Vectorizer "{name}" can follow its table again')

    async def _look_at_slot(self) -> None:
        """Warn when the slot keeps much WAL back, or the server is about to remove it."""
        slot = await find_slot(self._sessions.catalog, self._config.source.slot)
        self.last_look = replace(self.last_look, slot=slot)
        if slot is None or slot.retained_bytes is None:
            return
        if slot.retained_bytes < RETAINED_BYTES and slot.wal_status != "unreserved":
            self._warn_at = RETAINED_BYTES
        elif slot.retained_bytes >= self._warn_at or slot.wal_status == "unreserved":
            self._warn_at = max(2 * slot.retained_bytes, RETAINED_BYTES)
            _log.warning(
                "slot.retains_wal",
                slot=slot.name,
                retained_bytes=slot.retained_bytes,
                safe_wal_bytes=slot.safe_wal_size,
                wal_status=slot.wal_status,
                hint="`walvec status` says who is behind; max_slot_wal_keep_size bounds what is kept",
            )

    async def _count_dead_letters(self) -> None:
        parked = await count_parked(self._sessions.lookups)
        names = (*self._lanes, *self._attachment.vectorizers.paused)
        counts = {name: parked.get(name, 0) for name in names}
        self.last_look = replace(self.last_look, dead_letters=counts)
