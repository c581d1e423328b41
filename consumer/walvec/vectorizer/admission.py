"""Which vectorizers may follow their tables, and in which epoch.

An epoch is one row of `walvec.vectorizer` (docs/architecture.md, "Epochs"). Each time a process attaches,
what it finds is compared with that row. Settings of another fingerprint are refused. A table, a publication
or a function that is not the one of the epoch begins a new epoch, in which every row is compared. No
difference is ever passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from walvec.config.load import Config, Vectorizer
from walvec.database.continuity import read_horizon, read_next_xid
from walvec.database.dead_letters import count_parked
from walvec.database.ownership import load_ledger, require_own_table
from walvec.database.registry import (
    VectorizerState,
    begin_epoch,
    load_vectorizers,
    pause_vectorizer,
    remove_vectorizer,
)
from walvec.errors import ConfigInvalid, Unreadable
from walvec.vectorizer.bind import bind
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.fingerprint import fingerprint_of, require_fingerprint
from walvec.vectorizer.target import TargetTable
from walvec_slots.errors import PreconditionFailed
from walvec_slots.plugin import Plugin
from walvec_slots.publication import require_leaves
from walvec_slots.settle import Connection

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Vectorizers:
    """The configured vectorizers: those that can follow changes, and the others.

    `paused` names the latter. `with_letters` names those that have rows parked.
    """

    bindings: Mapping[str, Binding]
    tables: Mapping[str, TargetTable]
    states: Mapping[str, VectorizerState]
    paused: list[str]
    with_letters: set[str]


async def admit_vectorizers(
    config: Config, plugin: Plugin, writer: Connection, catalog: Connection, *, starting: bool
) -> Vectorizers:
    """Bind the configured vectorizers; begin a new epoch where a table has changed.

    A vectorizer that cannot follow its table is refused when the process starts. Later it is paused, with the
    reason: its vectors stay as they are, and the others go on. One whose rows this role may not read is
    always paused: that is for the table's owner to decide, at any time.

    Raises PreconditionFailed, ConfigInvalid.
    """
    slot = config.source.slot
    await _forget_removed(config, writer)
    known = await load_vectorizers(writer)
    ledger = await load_ledger(writer)
    bindings: dict[str, Binding] = {}
    tables: dict[str, TargetTable] = {}
    paused: list[str] = []
    for vectorizer in config.vectorizers:
        name, wanted = vectorizer.name, fingerprint_of(vectorizer, config.embedder)
        state = require_fingerprint(known.get(name), name, slot, wanted)
        try:
            await require_own_table(writer, ledger, vectorizer.target)
            binding, table = await bind_vectorizer(config, vectorizer, plugin, catalog, writer)
        except (PreconditionFailed, ConfigInvalid) as error:
            if starting and not state.paused and not isinstance(error, Unreadable):
                raise
            await pause_vectorizer(writer, name, str(error))
            paused.append(name)
            _log.error(
                "vectorizer.paused",
                vectorizer=name,
                what=error.what,
                hint=error.hint,
            )
            continue
        if state.paused or state.identity != binding.identity():
            await _begin_epoch(state, binding, wanted, plugin, writer, catalog)
        bindings[name], tables[name] = binding, table
    known = await load_vectorizers(writer)
    states = {name: known[name] for name in bindings}
    return Vectorizers(bindings, tables, states, paused, set(await count_parked(writer)))


async def bind_vectorizer(
    config: Config, vectorizer: Vectorizer, plugin: Plugin, catalog: Connection, target: Connection
) -> tuple[Binding, TargetTable]:
    """Bind a vectorizer to its table and describe its target.

    Raises PreconditionFailed or ConfigInvalid where it cannot follow the table's changes.
    """
    binding = await bind(catalog, vectorizer, config.source.publication)
    if plugin.applies_publication:
        require_leaves(binding.published, config.source.publication)
    table = TargetTable(vectorizer, binding.key, config.embedder.dimensions)
    await table.require_shape(target)
    return binding, table


async def _begin_epoch(
    state: VectorizerState,
    binding: Binding,
    wanted: Mapping[str, str],
    plugin: Plugin,
    writer: Connection,
    catalog: Connection,
) -> None:
    """Begin a new epoch.

    Its horizon is read after the table was bound, so whatever the binding was read from ends before it.
    """
    horizon = await read_horizon(catalog)
    waits_for_xid = await _find_awaited_xid(state, binding, catalog) if plugin.applies_publication else None
    if state.identity or state.paused:
        _log.warning("backfill.restarted", vectorizer=state.name)
    await begin_epoch(
        writer,
        state.name,
        state.slot,
        wanted,
        identity=binding.identity(),
        horizon=horizon,
        waits_for_xid=waits_for_xid,
    )


async def _find_awaited_xid(state: VectorizerState, binding: Binding, catalog: Connection) -> int | None:
    """Return the id before which every transaction must end ahead of a read.

    A transaction that is open while a table joins a publication may have rows that are not sent. A read that
    begins once it has ended finds them.
    """
    identity = binding.identity()
    if all(state.identity.get(part) == identity[part] for part in ("publication", "row_filter", "leaves")):
        return state.waits_for_xid
    return await read_next_xid(catalog)


async def _forget_removed(config: Config, writer: Connection) -> None:
    """Forget the slot's vectorizers that are no longer configured.

    One that is added again later then has all of its rows compared.
    """
    for name, state in (await load_vectorizers(writer)).items():
        if state.slot == config.source.slot and config.vectorizer(name) is None:
            await remove_vectorizer(writer, name)
            _log.warning(
                "vectorizer.unconfigured",
                vectorizer=name,
                target=state.target_table,
                hint=f"once it is not needed: DROP TABLE {state.target_table}",
            )
