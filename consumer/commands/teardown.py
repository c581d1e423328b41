"""`walvec teardown`: slot and publication, and with --tables what walvec made in the target."""

import typer
from psycopg import sql

from consumer import metadata
from consumer.commands.output import confirm
from consumer.config import Config
from consumer.database import Connection, connect_source_for_changes, connect_target
from slots import manage, publication
from slots.queries import load


async def teardown(config: Config, *, tables: bool, sure: bool) -> None:
    """Drop what setup created on the source; with `tables`, target tables and walvec's records of this slot
    too.

    Raises SlotActive while a process uses the slot.
    """
    slot, name = config.source.slot, config.source.publication
    losses = [f"slot {slot}: changes from now on are not followed", f"publication {name}"]
    if tables:
        losses += [f"table {vectorizer.target} with its vectors" for vectorizer in config.vectorizers]
    confirm("This drops:\n" + "\n".join(f"  {loss}" for loss in losses), sure=sure)
    async with await connect_source_for_changes(config) as source:
        if await manage.inspect(source, slot) is not None:
            await manage.drop(source, slot)
            typer.echo(f"dropped slot {slot}")
        await publication.drop(source, name)
        typer.echo(f"dropped publication {name}")
    async with await connect_target(config, role="teardown") as target:
        await _forget(config, target, tables=tables)


async def _forget(config: Config, target: Connection, *, tables: bool) -> None:
    """Forget the slot. Without its records a later setup begins from the first key, and compares what is
    there.
    """
    cursor = await target.execute(load("metadata.sql")["migration_table_exists"])
    async with target.transaction():
        if await cursor.fetchone() == (True,):
            for state in (await metadata.load_vectorizers(target)).values():
                if state.slot == config.source.slot:
                    await metadata.remove_vectorizer(target, state.name)
            await metadata.delete_checkpoint(target, config.source.slot)
        if tables:
            for vectorizer in config.vectorizers:
                await target.execute(
                    sql.SQL(load("target.sql")["drop_target"]).format(
                        target=sql.Identifier(*vectorizer.target)
                    )
                )
                typer.echo(f"dropped table {vectorizer.target}")
            await _drop_schema(target)


async def _drop_schema(target: Connection) -> None:
    """Drop schema walvec too, once no slot uses it."""
    cursor = await target.execute(load("metadata.sql")["schema_is_unused"])
    if await cursor.fetchone() == (True,):
        await target.execute(load("metadata.sql")["drop_schema"])
        typer.echo("dropped schema walvec")
