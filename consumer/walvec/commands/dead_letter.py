"""`walvec dead-letter …`: lists, retries and discards rows that were not embedded.

It reads and marks rows of walvec's own table, so it needs no running process. A running one picks up what is
marked within seconds; otherwise the next one does.
"""

from collections.abc import Sequence
from typing import Any

from psycopg.rows import dict_row

from walvec.commands.backfill import configured_vectorizer
from walvec.commands.output import confirm, print_json, print_table, say
from walvec.config.load import Config
from walvec.database.connect import connect_target
from walvec.database.migrate import require_schema
from walvec.errors import UsageInvalid
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("metadata.sql")


async def show(config: Config, name: str | None, key: Sequence[str], *, limit: int, as_json: bool) -> None:
    """List dead letters, newest first.

    Raises UsageInvalid for a name that is not configured.
    """
    wanted = _wanted(config, name, key)
    async with await connect_target(config, role="command") as target:
        await require_schema(target)
        cursor = target.cursor(row_factory=dict_row)
        await cursor.execute(_QUERIES["load_dead_letters"], {**wanted, "limit": limit})
        rows = await cursor.fetchall()
        total = await _count(target, wanted)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("vectorizer", "key", "stage", "error", "tries", "since", "last", "tried next", "what"),
        [_line(row) for row in rows],
        empty="There are no dead letters.",
    )
    if total > len(rows):
        say(f"… and {total - len(rows):,} more; raise --limit to see them")


async def retry(config: Config, name: str | None, key: Sequence[str], *, every: bool) -> None:
    """Have the rows of dead letters read and embedded again.

    Raises UsageInvalid if no choice is given, or nothing matches it.
    """
    _require_choice(name, every=every)
    async with await connect_target(config, role="command") as target:
        await require_schema(target)
        rows = await _act(target, "retry_dead_letters", config, name, key)
    say(f"{_rows(rows)} retried: a running walvec starts within seconds; otherwise run: walvec run")


async def discard(config: Config, name: str | None, key: Sequence[str], *, every: bool, sure: bool) -> None:
    """Discard dead letters: their rows stay as they are until they change again.

    Raises UsageInvalid if no choice is given, or nothing matches it.
    """
    _require_choice(name, every=every)
    async with await connect_target(config, role="command") as target:
        await require_schema(target)
        count = await _count(target, _wanted(config, name, key))
        left = "without an embedding" if config.pipeline.parked_vectors == "remove" else "with old vectors"
        confirm(f"{_rows(count)} discarded, and left {left} until they change again", sure=sure)
        rows = await _act(target, "discard_dead_letters", config, name, key)
    say(f"{_rows(rows)} discarded")


def _wanted(config: Config, name: str | None, key: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of the statements for what is chosen."""
    if name is not None:
        configured_vectorizer(config, name)
    return {"slot": config.source.slot, "vectorizer": name, "key": list(key) or None}


def _require_choice(name: str | None, *, every: bool) -> None:
    if name is None and not every:
        raise UsageInvalid(
            "No rows were chosen", hint="name a vectorizer or pass --all; --key chooses one row"
        )


async def _act(target: Connection, query: str, config: Config, name: str | None, key: Sequence[str]) -> int:
    cursor = await target.execute(_QUERIES[query], _wanted(config, name, key))
    if cursor.rowcount == 0:
        raise UsageInvalid("No dead letter matches", hint="list them: walvec dead-letter list")
    return cursor.rowcount


async def _count(target: Connection, wanted: dict[str, Any]) -> int:
    cursor = await target.execute(_QUERIES["count_dead_letters"], wanted)
    ((rows,),) = await cursor.fetchall()
    return int(rows)


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def _line(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["vectorizer"],
        ", ".join(row["key"]),
        row["stage"],
        row["error_class"],
        row["attempts"],
        f"{row['first_at']:%Y-%m-%d %H:%M}",
        f"{row['last_at']:%Y-%m-%d %H:%M}",
        _tried_next(row),
        row["error_message"],
    )


def _tried_next(row: dict[str, Any]) -> str:
    """Say when a row is retried, by the server's clock."""
    if row["retry"]:
        return "asked for"
    return f"{row['retry_at']:%Y-%m-%d %H:%M}" if row["retry_at"] else "when asked for"
