"""`walvec backfill NAME`: every row again, from the first key; the way to new expressions and models too."""

import typer

from consumer import metadata
from consumer.bind import bind
from consumer.config import Config, Vectorizer, fingerprint
from consumer.database import Connection, connect_source, connect_target
from consumer.errors import UsageInvalid
from consumer.target import TargetTable
from slots.errors import PreconditionFailed

_MODEL = (
    "provider",
    "model",
    "dimensions",
)  # vectors of two models are not to be compared, so never to be mixed


async def restart(config: Config, name: str) -> None:
    """Mark a vectorizer to begin again, under its present settings; a running process takes it up by itself.

    With another model the target is emptied; otherwise its vectors stay until the row is done, and where the
    text did not change, for good. Raises UsageInvalid for a name that is not configured.
    """
    vectorizer = find(config, name)
    async with await connect_target(config, role="command") as target:
        await metadata.require_schema(target)
        state = (await metadata.load_vectorizers(target)).get(name)
        if state is None:
            raise PreconditionFailed(f'vectorizer "{name}" is not set up', hint="run: walvec setup")
        wanted = fingerprint(vectorizer, config.embedder)
        changed = [key for key, value in wanted.items() if state.fingerprint.get(key) != value]
        if "target" in changed:
            raise PreconditionFailed(
                f'vectorizer "{name}" has {state.target_table} for its target',
                hint="with another target it is another vectorizer: rename it, and run: walvec setup",
            )
        async with target.transaction():
            if any(key in changed for key in _MODEL):
                await _empty(config, vectorizer, target)
            await metadata.begin_epoch(target, name, config.source.slot, wanted)
    typer.echo(
        f"{name}: every row is read again" + (f", with another {' and '.join(changed)}" if changed else "")
    )
    typer.echo("a running walvec with these settings takes it up within seconds; otherwise run: walvec run")


async def _empty(config: Config, vectorizer: Vectorizer, target: Connection) -> None:
    """Let the target be one for the new model's vectors."""
    async with await connect_source(config, role="command") as source:
        binding = await bind(source, vectorizer, config.source.publication)
    table = TargetTable(vectorizer, binding.key, config.embedder.dimensions)
    await target.execute(table.compose("drop_index", target), {})
    await target.execute(table.compose("empty_target", target), {})
    await target.execute(table.compose("change_vector_type", target), {})
    typer.echo(f"{vectorizer.name}: {vectorizer.target} is emptied, its vectors are of another model")


def find(config: Config, name: str) -> Vectorizer:
    """Return the vectorizer of that name. Raises UsageInvalid where there is none."""
    vectorizer = config.vectorizer(name)
    if vectorizer is None:
        names = ", ".join(each.name for each in config.vectorizers) or "none"
        raise UsageInvalid(f'there is no vectorizer "{name}"', hint=f"configured: {names}")
    return vectorizer
