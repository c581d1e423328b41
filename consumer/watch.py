"""What others change while the process runs: tables, publication, and backfills that a command asks for.

What changes the stages themselves ends the attachment, and the next one is bound to what is there then. What
only means that rows are to be compared again is done in place.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from consumer import metadata
from consumer.attach import Attachment
from consumer.bind import bind
from consumer.config import fingerprint
from consumer.errors import CatalogChanged, ConfigInvalid
from consumer.lane import Lane
from consumer.metadata import VectorizerState
from slots.errors import PreconditionFailed

INTERVAL = 2.0  # seconds between two looks

BeginAgain = Callable[[VectorizerState], Awaitable[None]]


class Watch:
    """Looks at both databases every INTERVAL seconds."""

    def __init__(
        self,
        attachment: Attachment,
        lanes: Mapping[str, Lane],
        writing: asyncio.Lock,
        begin_again: BeginAgain,
    ) -> None:
        """Compare with what `attachment` found. `begin_again` starts a backfill from a vectorizer's new
        state.
        """
        self._attachment = attachment
        self._config = attachment.config
        self._lanes = lanes
        self._writing = writing
        self._begin_again = begin_again
        self._generations = {name: state.generation for name, state in attachment.vectorizers.states.items()}

    async def run(self) -> None:
        """Look again and again. Raises CatalogChanged where the attachment has to be made anew."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self._look_for_restarts()
            for lane in self._lanes.values():
                await self._look_at_table(lane)
            for name in self._attachment.vectorizers.paused:
                await self._look_for_mending(name)

    async def _look_for_restarts(self) -> None:
        """Begin again the backfills that were restarted, here or by a command."""
        lookups, slot = self._attachment.lookups, self._config.source.slot
        generations = await metadata.load_generations(lookups, slot)
        for name, lane in self._lanes.items():
            if generations.get(name) in (None, self._generations[name]):
                continue
            state = (await metadata.load_vectorizers(lookups))[name]
            if state.fingerprint != fingerprint(lane.binding.vectorizer, self._config.embedder):
                raise CatalogChanged(f'vectorizer "{name}" was set up anew with other settings')
            self._generations[name] = state.generation
            await self._begin_again(state)

    async def _look_at_table(self, lane: Lane) -> None:
        """Compare the lane's table and what is published of it with what the lane is bound to."""
        vectorizer = lane.binding.vectorizer
        try:
            now = await bind(self._attachment.catalog, vectorizer, self._config.source.publication)
        except (PreconditionFailed, ConfigInvalid) as error:
            raise CatalogChanged(error.what) from error
        if now.definition() != lane.binding.definition():
            raise CatalogChanged(f'vectorizer "{lane.name}": its table or the publication has changed')
        if now.state() != lane.binding.state():
            # Rewritten, or made anew just the same: no event tells of such rows.
            lane.binding = now
            wanted = fingerprint(vectorizer, self._config.embedder)
            async with self._writing:
                await metadata.restart_backfill(
                    self._attachment.writer, lane.name, self._config.source.slot, wanted
                )

    async def _look_for_mending(self, name: str) -> None:
        """Attach anew once a paused vectorizer can be bound."""
        vectorizer = self._config.vectorizer(name)
        if vectorizer is None:
            return
        try:
            await bind(self._attachment.catalog, vectorizer, self._config.source.publication)
        except (PreconditionFailed, ConfigInvalid):
            return
        raise CatalogChanged(f'vectorizer "{name}" can follow its table again')
