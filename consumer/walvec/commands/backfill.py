"""`walvec backfill NAME`: every row again, from the first key; the way to new expressions and models too.

Where the settings changed it costs something: it says what, and asks.
"""

from collections.abc import Sequence

import psycopg

from walvec.commands.estimate.cost import estimate
from walvec.commands.estimate.sampling import sample
from walvec.commands.output import confirm, say
from walvec.config.load import Config, Vectorizer
from walvec.database.connect import connect_source, connect_target
from walvec.database.migrate import require_schema
from walvec.database.ownership import load_ledger, require_own_schema, require_own_table, require_vectorizer
from walvec.database.registry import VectorizerState, begin_epoch, load_vectorizers
from walvec.errors import UsageInvalid
from walvec.vectorizer.bind import bind
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.fingerprint import changed_settings, fingerprint_of
from walvec.vectorizer.target import TargetTable
from walvec.vectorizer.vector_index import drop_own_indexes
from walvec_slots.errors import PreconditionFailed, WalvecError
from walvec_slots.settle import Connection

# Vectors of two models are not to be compared, so never to be mixed.
_MODEL = ("provider", "model", "dimensions")


async def restart(config: Config, names: Sequence[str], *, sure: bool) -> None:
    """Mark vectorizers to begin again, under their present settings; a running process takes it up by itself.

    With another model the target is emptied; otherwise its vectors stay until the row is done, and where the
    text did not change, for good. `sure` is --yes. Raises UsageInvalid for a name that is not configured,
    PreconditionFailed for a vectorizer that is not this slot's.
    """
    chosen = [configured_vectorizer(config, name) for name in names]
    async with await connect_target(config, role="command") as target:
        await require_own_schema(target)
        await require_schema(target)
        states, ledger = await load_vectorizers(target), await load_ledger(target)
        changes: dict[str, list[str]] = {}
        for vectorizer in chosen:
            state = require_vectorizer(states.get(vectorizer.name), vectorizer.name, config.source.slot)
            changes[vectorizer.name] = _changed(config, vectorizer, state)
            if not await require_own_table(target, ledger, vectorizer.target):
                raise PreconditionFailed(
                    f"the target table {vectorizer.target} does not exist", hint="run: walvec setup"
                )
        if any(changes.values()):
            costs = [await _cost(config, each, changes[each.name], target) for each in chosen]
            confirm("\n".join(costs), sure=sure)
        async with target.transaction():
            for vectorizer in chosen:
                await _begin(config, vectorizer, changes[vectorizer.name], target)
    for name in names:
        with_what = f", with another {' and '.join(changes[name])}" if changes[name] else ""
        say(f"{name}: every row is read again{with_what}")
    say("a running walvec with these settings takes it up within seconds; otherwise run: walvec run")


def _changed(config: Config, vectorizer: Vectorizer, state: VectorizerState) -> list[str]:
    changed = changed_settings(state, fingerprint_of(vectorizer, config.embedder))
    if "target" in changed:
        raise PreconditionFailed(
            f'vectorizer "{vectorizer.name}" has {state.target_table} for its target',
            hint="with another target it is another vectorizer: rename it, and run: walvec setup",
        )
    return changed


async def _cost(config: Config, vectorizer: Vectorizer, changed: Sequence[str], target: Connection) -> str:
    """Say what a backfill empties, and about how much it embeds."""
    async with await connect_source(config, role="command") as source:
        binding = await bind(source, vectorizer, config.source.publication)
        try:
            rows = await sample(source, target, binding, config.embedder)
        except WalvecError:
            volume = "how much there is to embed is not known (walvec check --estimate)"
        else:
            found = estimate(
                vectorizer.name, str(vectorizer.table), rows, config.embedder, latency=0, price=None
            )
            volume = (
                f"about {found.left.rows:,} of {found.all.rows:,} rows are embedded: {found.left.tokens:,} "
                f"tokens, {found.requests:,} requests to {config.embedder.provider} {config.embedder.model}"
            )
    if not any(key in changed for key in _MODEL):
        return f"{vectorizer.name}: {volume}"
    return (
        f"{vectorizer.name}: {vectorizer.target} is emptied, because vectors of two models cannot be "
        f"compared, and a search finds nothing until it is full again; {volume}"
    )


async def _begin(config: Config, vectorizer: Vectorizer, changed: Sequence[str], target: Connection) -> None:
    # First the epoch, before the table is locked: it waits for open transactions, and fences later ones.
    wanted = fingerprint_of(vectorizer, config.embedder)
    await begin_epoch(target, vectorizer.name, config.source.slot, wanted)
    if any(key in changed for key in _MODEL):
        async with await connect_source(config, role="command") as source:
            binding = await bind(source, vectorizer, config.source.publication)
        await _empty(config, binding, target)


async def _empty(config: Config, binding: Binding, target: Connection) -> None:
    """Let the target be one for the new model's vectors."""
    table = TargetTable(binding.vectorizer, binding.key, config.embedder.dimensions)
    await drop_own_indexes(table, target)
    await target.execute(table.compose("empty_target", target), {})
    try:
        await target.execute(table.compose("change_vector_type", target), {})
    except (psycopg.errors.DatatypeMismatch, psycopg.errors.FeatureNotSupported) as error:
        raise PreconditionFailed(
            f"{table.name} cannot take {table.vector_type}: {error.diag.message_primary}",
            hint="drop the index or view of your own that stands in the way, and make it again afterwards",
        ) from error


def choose(config: Config, name: str | None, *, every: bool) -> list[str]:
    """Return the names that the command line means. Raises UsageInvalid where that is not clear."""
    if every == (name is not None):
        raise UsageInvalid("backfill needs either a NAME or --all", hint="walvec backfill --all")
    return [vectorizer.name for vectorizer in config.vectorizers] if name is None else [name]


def configured_vectorizer(config: Config, name: str) -> Vectorizer:
    """Return the vectorizer of that name. Raises UsageInvalid where there is none."""
    vectorizer = config.vectorizer(name)
    if vectorizer is None:
        names = ", ".join(each.name for each in config.vectorizers) or "none"
        raise UsageInvalid(f'there is no vectorizer "{name}"', hint=f"configured: {names}")
    return vectorizer
