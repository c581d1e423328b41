"""Which vectorizers may follow their tables, and in which epoch.

An epoch is one row of `walvec.vectorizer` (docs/architecture.md, "Epochs"). Each time a process attaches,
what it finds is held against that row: settings of another fingerprint are refused; a table, a publication or
a function that is not what the epoch rests on begins a new one, in which every row is compared. Nothing is
ever passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from walvec.config.load import Config, Vectorizer, fingerprint
from walvec.database.continuity import read_horizon, read_next_xid
from walvec.database.dead_letters import count_parked
from walvec.database.ownership import load_ledger, require_own_table, require_vectorizer
from walvec.database.registry import VectorizerState, begin_epoch, load_vectorizers, pause, remove_vectorizer
from walvec.errors import ConfigInvalid, Unreadable
from walvec.vectorizer.bind import Binding, bind
from walvec.vectorizer.target import TargetTable
from walvec_slots.errors import PreconditionFailed
from walvec_slots.plugin import Plugin
from walvec_slots.publication import require_leaves
from walvec_slots.settle import Connection

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Vectorizers:
    """The configured vectorizers: those that can follow changes, and those that cannot."""

    bindings: dict[str, Binding] = field(default_factory=dict)
    tables: dict[str, TargetTable] = field(default_factory=dict)
    states: dict[str, VectorizerState] = field(default_factory=dict)
    paused: list[str] = field(default_factory=list)
    with_letters: set[str] = field(default_factory=set)  # those that have rows parked


async def admit_vectorizers(
    config: Config, plugin: Plugin, writer: Connection, catalog: Connection, *, starting: bool
) -> Vectorizers:
    """Bind the configured vectorizers, and begin a new epoch for each whose table is not as it was.

    One that cannot follow its table is refused when the process starts, and paused, with the reason, when
    that comes about later: its vectors stay as they are, and the others go on. One whose rows cannot be read
    for want of a right is always paused: their owner decides that, and may at any time.

    Raises PreconditionFailed, ConfigInvalid.
    """
    slot = config.source.slot
    await _forget_removed(config, writer)
    known = await load_vectorizers(writer)
    ledger = await load_ledger(writer)
    admitted = Vectorizers()
    for vectorizer in config.vectorizers:
        name, wanted = vectorizer.name, fingerprint(vectorizer, config.embedder)
        state = require_fingerprint(known.get(name), name, slot, wanted)
        try:
            await require_own_table(writer, ledger, vectorizer.target)
            binding, table = await bind_vectorizer(config, vectorizer, plugin, catalog, writer)
        except (PreconditionFailed, ConfigInvalid) as error:
            if starting and not state.paused and not isinstance(error, Unreadable):
                raise
            await pause(writer, name, str(error))
            admitted.paused.append(name)
            _log.error(
                "vectorizer is paused; its vectors stay as they are",
                vectorizer=name,
                what=error.what,
                hint=error.hint,
            )
            continue
        if state.paused or state.identity != binding.identity():
            await _begin_epoch(state, binding, wanted, plugin, writer, catalog)
        admitted.bindings[name], admitted.tables[name] = binding, table
    known = await load_vectorizers(writer)
    admitted.with_letters = set(await count_parked(writer))
    admitted.states = {name: known[name] for name in admitted.bindings}
    return admitted


async def bind_vectorizer(
    config: Config, vectorizer: Vectorizer, plugin: Plugin, catalog: Connection, target: Connection
) -> tuple[Binding, TargetTable]:
    """Bind a vectorizer to its table and describe its target.

    Raises PreconditionFailed or ConfigInvalid where one of them does not allow it to follow changes.
    """
    binding = await bind(catalog, vectorizer, config.source.publication)
    if plugin.applies_publication:
        require_leaves(binding.published, config.source.publication)
    table = TargetTable(vectorizer, binding.key, config.embedder.dimensions)
    await table.require(target)
    return binding, table


async def _begin_epoch(
    state: VectorizerState,
    binding: Binding,
    wanted: Mapping[str, str],
    plugin: Plugin,
    writer: Connection,
    catalog: Connection,
) -> None:
    """Begin a new epoch. The horizon is read after the binding: what that was read from ends before it."""
    horizon = await read_horizon(catalog)
    waits_for_xid = await _waits_for_xid(state, binding, catalog) if plugin.applies_publication else None
    if state.identity or state.paused:
        _log.warning(
            "all rows are compared again: the table or its publication has changed", vectorizer=state.name
        )
    await begin_epoch(
        writer,
        state.name,
        state.slot,
        wanted,
        identity=binding.identity(),
        horizon=horizon,
        waits_for_xid=waits_for_xid,
    )


async def _waits_for_xid(state: VectorizerState, binding: Binding, catalog: Connection) -> int | None:
    """Return which transactions have to end before the rows are read.

    A transaction that is open while a table joins a publication may have rows that are not sent. A read that
    begins once it has ended finds them.
    """
    identity = binding.identity()
    if all(state.identity.get(part) == identity[part] for part in ("publication", "row_filter", "leaves")):
        return state.waits_for_xid
    return await read_next_xid(catalog)


def require_fingerprint(
    state: VectorizerState | None, name: str, slot: str, wanted: Mapping[str, str]
) -> VectorizerState:
    """Return the vectorizer's state if its vectors were made as the settings say.

    Raises PreconditionFailed where it is not set up, is another slot's, or was made otherwise.
    """
    state = require_vectorizer(state, name, slot)
    changed = [key for key, value in wanted.items() if state.fingerprint.get(key) != value]
    if changed:
        raise PreconditionFailed(
            f'vectorizer "{name}": {" and ".join(changed)} changed since {state.target_table} was embedded',
            hint=f"set it back, or run: walvec backfill {name}, which says what that costs and asks first",
        )
    return state


async def _forget_removed(config: Config, writer: Connection) -> None:
    """Forget the slot's vectorizers that are no longer configured.

    So that one that is added again later has all of its rows compared.
    """
    for name, state in (await load_vectorizers(writer)).items():
        if state.slot == config.source.slot and config.vectorizer(name) is None:
            await remove_vectorizer(writer, name)
            _log.warning(
                "vectorizer is no longer configured; its target is kept as it is and follows no changes",
                vectorizer=name,
                target=state.target_table,
                hint=f"DROP TABLE {state.target_table} when it is of no more use",
            )
