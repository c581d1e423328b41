"""`walvec backfill NAME`: reads every row again, from the first key.

This is also how new expressions and models take effect. If the settings changed, the command says what that
costs, and asks.
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

# Vectors of two models cannot be compared, so one target never holds both.
_MODEL = ("provider", "model", "dimensions")


async def restart(config: Config, names: Sequence[str], *, sure: bool) -> None:
    """Begin a new epoch for vectorizers, under their present settings.

    A running process picks it up by itself. With another model the target is emptied; otherwise vectors stay
    until their row is done, and for good if the text did not change. `sure` is --yes. Raises UsageInvalid
    for a name that is not configured, PreconditionFailed for a vectorizer of another slot.
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
                    f"The target table {vectorizer.target} does not exist", hint="run: walvec setup"
                )
        if any(changes.values()):
            costs = [
                await _cost(config, vectorizer, changes[vectorizer.name], target) for vectorizer in chosen
            ]
            confirm("\n".join(costs), sure=sure)
        async with target.transaction():
            for vectorizer in chosen:
                await _begin(config, vectorizer, changes[vectorizer.name], target)
    for name in names:
        with_what = f", with another {' and '.join(changes[name])}" if changes[name] else ""
        say(f"{name}: every row will be read again{with_what}")
    say("a running walvec with these settings starts within seconds; otherwise run: walvec run")


def _changed(config: Config, vectorizer: Vectorizer, state: VectorizerState) -> list[str]:
    changed = changed_settings(state, fingerprint_of(vectorizer, config.embedder))
    if "target" in changed:
        raise PreconditionFailed(
            f'Vectorizer "{vectorizer.name}" writes to {state.target_table}, not to {vectorizer.target}',
            hint="a vectorizer keeps its target: give the new one another name, and run: walvec setup",
        )
    return changed


async def _cost(config: Config, vectorizer: Vectorizer, changed: Sequence[str], target: Connection) -> str:
    """Say what a backfill empties, and about how much it embeds."""
    async with await connect_source(config, role="command") as source:
        binding = await bind(source, vectorizer, config.source.publication)
        try:
            rows = await sample(source, target, binding, config.embedder)
        except WalvecError:
            volume = "could not estimate how much will be embedded (see: walvec check --estimate)"
        else:
            found = estimate(
                vectorizer.name, str(vectorizer.table), rows, config.embedder, latency=0, price=None
            )
            volume = (
                f"about {found.left.rows:,} of {found.all.rows:,} rows will be embedded: "
                f"{found.left.tokens:,} "
                f"tokens, {found.requests:,} requests to {config.embedder.provider} {config.embedder.model}"
            )
    if not any(key in changed for key in _MODEL):
        return f"{vectorizer.name}: {volume}"
    return (
        f"{vectorizer.name}: {vectorizer.target} will be emptied, because vectors of two models cannot be "
        f"compared. Searches find nothing until it is filled again; {volume}"
    )


async def _begin(config: Config, vectorizer: Vectorizer, changed: Sequence[str], target: Connection) -> None:
    # The epoch comes before the lock on the table: it waits for open transactions and fences later ones.
    wanted = fingerprint_of(vectorizer, config.embedder)
    await begin_epoch(target, vectorizer.name, config.source.slot, wanted)
    if any(key in changed for key in _MODEL):
        async with await connect_source(config, role="command") as source:
            binding = await bind(source, vectorizer, config.source.publication)
        await _empty(config, binding, target)


async def _empty(config: Config, binding: Binding, target: Connection) -> None:
    """Empty the target and give it the new model's vector type."""
    table = TargetTable(binding.vectorizer, binding.key, config.embedder.dimensions)
    await drop_own_indexes(table, target)
    await target.execute(table.compose("empty_target", target), {})
    try:
        await target.execute(table.compose("change_vector_type", target), {})
    except (psycopg.errors.DatatypeMismatch, psycopg.errors.FeatureNotSupported) as error:
        raise PreconditionFailed(
            f"{table.name} cannot take {table.vector_type}: {error.diag.message_primary}",
            hint="drop the index or view that depends on it, and create it again afterwards",
        ) from error


def choose(config: Config, name: str | None, *, every: bool) -> list[str]:
    """Return the chosen names. Raises UsageInvalid unless exactly one choice is given."""
    if every == (name is not None):
        raise UsageInvalid("Backfill needs either a NAME or --all", hint="walvec backfill --all")
    return [vectorizer.name for vectorizer in config.vectorizers] if name is None else [name]


def configured_vectorizer(config: Config, name: str) -> Vectorizer:
    """Return the vectorizer of that name. Raises UsageInvalid if there is none."""
    vectorizer = config.vectorizer(name)
    if vectorizer is None:
        names = ", ".join(other.name for other in config.vectorizers) or "none"
        raise UsageInvalid(f'Unknown vectorizer "{name}"', hint=f"configured: {names}")
    return vectorizer
