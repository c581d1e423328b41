"""Whether slot, checkpoint, server, settings and tables still belong together.

Each of them can be changed behind walvec's back: a backup restored, a slot dropped, a column renamed. What
does not fit is refused or compared anew here, before anything is read; nothing is ever passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from consumer import metadata
from consumer.bind import Binding, bind
from consumer.config import Config, fingerprint
from consumer.database import Connection
from consumer.errors import ConfigInvalid
from consumer.metadata import Checkpoint, VectorizerState
from consumer.target import TargetTable
from slots.errors import PreconditionFailed, SlotLost
from slots.lsn import Lsn
from slots.manage import Slot
from slots.queries import load

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Vectorizers:
    """The configured vectorizers: those that can follow changes, and those that cannot at present."""

    bindings: dict[str, Binding] = field(default_factory=dict)
    tables: dict[str, TargetTable] = field(default_factory=dict)
    states: dict[str, VectorizerState] = field(default_factory=dict)
    paused: list[str] = field(default_factory=list)
    with_letters: set[str] = field(default_factory=set)  # those that have rows parked


@dataclass(frozen=True, slots=True)
class Server:
    """The source's server: which one, since which promotion or restore, and how far it is.

    Everything committed before it was looked at lies before `position`.
    """

    system_identifier: int
    timeline: int
    position: Lsn


async def look_at_server(connection: Connection) -> Server:
    """Ask the source which server it is."""
    cursor = await connection.execute(load("source.sql")["position"], {})
    ((system_identifier, timeline, position),) = await cursor.fetchall()
    return Server(system_identifier, timeline, Lsn.parse(position))


def agree(name: str, slot: Slot | None, checkpoint: Checkpoint, server: Server) -> None:
    """Raise SlotLost where checkpoint, slot and server do not belong together: changes may be missing."""
    mend = "run: walvec resync"
    if checkpoint.system_identifier != server.system_identifier:
        raise SlotLost(f'the checkpoint of slot "{name}" is of another server than the source', hint=mend)
    if checkpoint.timeline != server.timeline:
        raise SlotLost(
            f'the checkpoint of slot "{name}" is of timeline {checkpoint.timeline}, the source is on '
            f"{server.timeline}: it was promoted or restored, and may have other changes than were embedded",
            hint=mend,
        )
    if slot is None:
        raise SlotLost(
            f'slot "{name}" does not exist on the source; changes since {checkpoint.lsn} are missing',
            hint=mend,
        )
    if slot.invalidation_reason or slot.wal_status == "lost" or slot.confirmed_flush_lsn is None:
        reason = slot.invalidation_reason or "its WAL was removed"
        raise SlotLost(
            f'slot "{name}" was invalidated ({reason}); changes since {checkpoint.lsn} are missing', hint=mend
        )
    if slot.confirmed_flush_lsn > checkpoint.lsn:
        raise SlotLost(
            f'slot "{name}" stands at {slot.confirmed_flush_lsn}, past the checkpoint {checkpoint.lsn}: '
            "somebody else moved it or made it anew, and the changes between are missing",
            hint=mend,
        )
    if checkpoint.lsn > server.position:
        raise SlotLost(
            f'the checkpoint {checkpoint.lsn} of slot "{name}" lies past the source\'s last LSN '
            f"{server.position}: the source was restored to an earlier state",
            hint=mend,
        )


async def agree_on_vectorizers(
    config: Config, writer: Connection, catalog: Connection, *, starting: bool
) -> Vectorizers:
    """Hold the configured vectorizers against tables and target; let the ones begin again that must.

    One that cannot follow its table is refused when the process starts, and paused, with the reason, when
    that comes about later: its vectors stay as they are, the others go on, and it is compared in full once it
    is mended.

    Raises PreconditionFailed, ConfigInvalid.
    """
    slot = config.source.slot
    await _forget_removed(config, writer)
    known = await metadata.load_vectorizers(writer)
    agreed = Vectorizers()
    for vectorizer in config.vectorizers:
        name, wanted = vectorizer.name, fingerprint(vectorizer, config.embedder)
        state = require_fingerprint(known.get(name), name, slot, wanted)
        try:
            binding = await bind(catalog, vectorizer, config.source.publication)
            table = TargetTable(vectorizer, binding.key, config.embedder.dimensions)
            await table.require(writer)
        except (PreconditionFailed, ConfigInvalid) as error:
            if starting and not state.paused:
                raise
            await metadata.pause(writer, name, str(error))
            agreed.paused.append(name)
            _log.error(
                "vectorizer is paused; its vectors stay as they are",
                vectorizer=name,
                what=error.what,
                hint=error.hint,
            )
            continue
        if state.paused or (state.identity and state.identity != binding.state()):
            _log.warning(
                "all rows are compared again: the table or its publication has changed", vectorizer=name
            )
            await metadata.restart_backfill(writer, name, slot, wanted)
        agreed.bindings[name], agreed.tables[name] = binding, table
    known = await metadata.load_vectorizers(writer)
    agreed.with_letters = set(await metadata.count_parked(writer))
    agreed.states = {name: known[name] for name in agreed.bindings}
    return agreed


def require_fingerprint(
    state: VectorizerState | None, name: str, slot: str, wanted: Mapping[str, str]
) -> VectorizerState:
    """Return the vectorizer's state if its vectors were made as the settings say.

    Raises PreconditionFailed where it is not set up, is another slot's, or was made otherwise.
    """
    if state is None:
        raise PreconditionFailed(f'vectorizer "{name}" is not set up', hint="run: walvec setup")
    if state.slot != slot:
        raise PreconditionFailed(
            f'vectorizer "{name}" belongs to slot "{state.slot}"',
            hint="give it another name or set [source] slot",
        )
    changed = [key for key, value in wanted.items() if state.fingerprint.get(key) != value]
    if changed:
        raise PreconditionFailed(
            f'vectorizer "{name}": {" and ".join(changed)} changed since {state.target_table} was embedded',
            hint=f"run: walvec backfill {name} (only what differs is embedded), or set it back",
        )
    return state


async def _forget_removed(config: Config, writer: Connection) -> None:
    """Forget the slot's vectorizers that are no longer configured, so that adding one again compares all of
    it.
    """
    for name, state in (await metadata.load_vectorizers(writer)).items():
        if state.slot == config.source.slot and config.vectorizer(name) is None:
            await metadata.remove_vectorizer(writer, name)
            _log.warning(
                "vectorizer is no longer configured; its target is kept as it is and follows no changes",
                vectorizer=name,
                target=state.target_table,
                hint=f"DROP TABLE {state.target_table} when it is of no more use",
            )
