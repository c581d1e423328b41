"""walvec's own tables in the target database: checkpoint, vectorizers, migrations.

What must stand in one transaction with the vectors is written by `write`; this module holds the rest, and the
shapes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from walvec.database.connect import Connection
from walvec.stages.actions import Key
from walvec.stages.landmark import Landmark
from walvec.stages.parking import DeadLetter
from walvec_slots.errors import PreconditionFailed
from walvec_slots.lsn import Lsn
from walvec_slots.queries import FOLDER, load

_QUERIES = load("metadata.sql")
_MIGRATIONS = FOLDER / "migrations"


Phase = Literal["rows", "sweep", "index", "done"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Through where everything is embedded, on which server, and what was decoded but not visible then."""

    system_identifier: int
    timeline: int
    lsn: Lsn
    unseen_xids: tuple[int, ...]
    landmark: Landmark | None = None  # the last commit that it covers, as far as one is known


@dataclass(frozen=True, slots=True)
class VectorizerState:
    """What `walvec.vectorizer` says of one vectorizer."""

    name: str
    slot: str
    source_table: str
    target_table: str
    fingerprint: dict[str, str]
    identity: dict[str, Any]  # {}: no epoch has begun since it was set up, or was to be compared again
    horizon: str
    lsn: str | None
    phase: Phase
    generation: int
    last_key: list[str] | None
    rows_done: int
    rows_estimated: int | None
    started_at: datetime
    finished_at: datetime | None
    sweeps: bool
    paused: str | None
    waits_for_xid: int | None  # transactions of the source before it have to end before its rows are read

    @property
    def applied(self) -> Lsn:
        """How far its changes are applied where that is past the checkpoint; 0 otherwise."""
        return Lsn.parse(self.lsn) if self.lsn else Lsn(0)

    @property
    def horizon_lsn(self) -> Lsn:
        """The source's WAL insert position when the epoch began: older changes are read by key."""
        return Lsn.parse(self.horizon)

    @property
    def resume_after(self) -> Key | None:
        """The last key of the phase that is done."""
        return tuple(self.last_key) if self.last_key is not None else None


async def migrate(connection: Connection) -> list[int]:
    """Create walvec's schema or bring it up to date; return the versions applied now."""
    done = []
    async with connection.transaction():
        if not await _holds(connection, "schema_exists"):
            await connection.execute(_QUERIES["create_schema"])
        if not await _holds(connection, "migration_table_exists"):
            await connection.execute(_QUERIES["create_migration_table"])
        applied = await _applied(connection)
        for version, statements in _migrations():
            if version not in applied:
                await _apply(connection, statements)
                await connection.execute(_QUERIES["record_migration"], {"version": version})
                done.append(version)
    return done


async def _apply(connection: Connection, statements: LiteralString) -> None:
    try:
        await connection.execute(statements)
    except psycopg.errors.UniqueViolation as error:
        # A target of two vectorizers was no error in version 1.
        raise PreconditionFailed(
            f"walvec's tables cannot be brought up to date: {error.diag.message_detail}",
            hint="a target belongs to one vectorizer: DELETE the other FROM walvec.vectorizer",
        ) from error


async def require_schema(connection: Connection) -> None:
    """Raise PreconditionFailed unless walvec's schema is there and is this version's."""
    try:
        old = await outdated(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise PreconditionFailed(
            "walvec's role may not use schema walvec in the target database",
            hint="GRANT USAGE ON SCHEMA walvec and ALL ON ALL TABLES IN SCHEMA walvec to it",
        ) from error
    if old:
        raise PreconditionFailed(
            "walvec's tables in the target database are missing or of an older version",
            hint="run: walvec setup",
        )


async def is_migrated(connection: Connection) -> bool:
    """Whether walvec's tables are there, of whichever version."""
    return await _holds(connection, "migration_table_exists")


async def outdated(connection: Connection) -> bool:
    """Whether walvec's tables lack a migration. Raises PreconditionFailed where they are newer."""
    applied = await _applied(connection) if await is_migrated(connection) else set()
    known = {version for version, _ in _migrations()}
    if applied - known:
        raise PreconditionFailed(
            "walvec's tables in the target database are of a newer version than this program",
            hint="upgrade walvec: pip install --upgrade walvec",
        )
    return bool(known - applied)


async def load_checkpoint(connection: Connection, slot: str) -> Checkpoint | None:
    """Return the slot's checkpoint, None before its first."""
    cursor = await connection.execute(_QUERIES["load_checkpoint"], {"slot": slot})
    row = await cursor.fetchone()
    if row is None:
        return None
    system_identifier, timeline, lsn, unseen_xids, commit_xid, commit_end = row
    landmark = Landmark(commit_xid, Lsn.parse(commit_end)) if commit_end else None
    return Checkpoint(system_identifier, timeline, Lsn.parse(lsn), tuple(unseen_xids), landmark)


async def take_over(connection: Connection, slot: str, holder: UUID) -> None:
    """Make `holder` the attachment that writes for the slot; every earlier one writes nothing more."""
    await connection.execute(_QUERIES["take_over"], {"slot": slot, "holder": holder})


async def begin_checkpoint(connection: Connection, slot: str, checkpoint: Checkpoint) -> None:
    """Save where a new slot begins. The one that it takes the place of must be gone."""
    values = {
        "slot": slot,
        "system_identifier": checkpoint.system_identifier,
        "timeline": checkpoint.timeline,
        "lsn": str(checkpoint.lsn),
        "unseen_xids": list(checkpoint.unseen_xids),
    }
    await connection.execute(_QUERIES["begin_checkpoint"], values)


async def set_back(connection: Connection, slot: str, lsn: Lsn) -> None:
    """Set the checkpoint, and every vectorizer of the slot, back to an earlier place, in one transaction."""
    await connection.execute(_QUERIES["set_back"], {"slot": slot, "lsn": str(lsn)})


async def delete_checkpoint(connection: Connection, slot: str) -> None:
    """Forget how far a slot's changes were applied."""
    await connection.execute(_QUERIES["delete_checkpoint"], {"slot": slot})


async def load_vectorizers(connection: Connection) -> dict[str, VectorizerState]:
    """Return every vectorizer the target knows, of whichever slot, by name."""
    cursor = connection.cursor(row_factory=class_row(VectorizerState))
    await cursor.execute(_QUERIES["load_vectorizers"])
    return {state.name: state for state in await cursor.fetchall()}


async def load_generations(connection: Connection, slot: str) -> dict[str, int]:
    """Return the generation that each of the slot's vectorizers is in."""
    cursor = await connection.execute(_QUERIES["load_generations"], {"slot": slot})
    return dict(await cursor.fetchall())


async def add_vectorizer(
    connection: Connection, name: str, slot: str, fingerprint: Mapping[str, str]
) -> None:
    """Register a vectorizer; its first epoch begins when a process attaches."""
    await connection.execute(
        _QUERIES["add_vectorizer"],
        {
            "name": name,
            "slot": slot,
            "source_table": fingerprint["table"],
            "target_table": fingerprint["target"],
            "fingerprint": Jsonb(fingerprint),
        },
    )


async def begin_epoch(
    connection: Connection,
    name: str,
    slot: str,
    fingerprint: Mapping[str, str],
    *,
    identity: Mapping[str, object] | None = None,
    horizon: Lsn | None = None,
    waits_for_xid: int | None = None,
) -> None:
    """Let a vectorizer compare every row again, and fence whatever is still written for the epoch before.

    `identity` is what the process that attaches has found, `horizon` the source's WAL insert position after
    that, and `waits_for_xid` what its transactions have to reach before the rows are read. A command gives
    none: then the next attachment finds that the identity differs, and begins the epoch that the rows are
    read in.
    """
    values = {
        "name": name,
        "slot": slot,
        "source_table": fingerprint["table"],
        "fingerprint": Jsonb(fingerprint),
        "identity": Jsonb(identity or {}),
        "horizon": str(horizon or Lsn(0)),
        "waits_for_xid": waits_for_xid,
    }
    await connection.execute(_QUERIES["begin_epoch"], values)


async def pause(connection: Connection, name: str, reason: str) -> None:
    """Save why a vectorizer's changes are not applied; the next epoch ends it."""
    await connection.execute(_QUERIES["pause"], {"name": name, "reason": reason})


async def remove_vectorizer(connection: Connection, name: str) -> None:
    """Forget a vectorizer and what was parked for it."""
    await connection.execute(_QUERIES["remove_vectorizer"], {"name": name})


async def load_retries(connection: Connection, vectorizers: Sequence[str], *, limit: int) -> list[DeadLetter]:
    """Return the parked rows that are to be tried again now, at most `limit`; those asked for come first."""
    values = {"vectorizers": list(vectorizers), "limit": limit}
    cursor = await connection.execute(_QUERIES["load_retries"], values)
    return [DeadLetter(name, tuple(key), attempts) for name, key, attempts in await cursor.fetchall()]


async def count_parked(connection: Connection) -> dict[str, int]:
    """Return the number of dead letters by vectorizer."""
    cursor = await connection.execute(_QUERIES["count_parked"])
    return dict(await cursor.fetchall())


async def count_retried(connection: Connection) -> dict[str, int]:
    """Return, by vectorizer, how many of the dead letters are tried again by themselves."""
    cursor = await connection.execute(_QUERIES["count_retried"])
    return dict(await cursor.fetchall())


async def _holds(connection: Connection, question: LiteralString) -> bool:
    cursor = await connection.execute(_QUERIES[question])
    return await cursor.fetchone() == (True,)


async def _applied(connection: Connection) -> set[int]:
    cursor = await connection.execute(_QUERIES["applied_migrations"])
    return {version for (version,) in await cursor.fetchall()}


def _migrations() -> Iterator[tuple[int, LiteralString]]:
    """Yield version and statements of every migration, oldest first. They ship with the package."""
    for path in sorted(_MIGRATIONS.glob("*.sql")):
        yield int(path.stem.split("_")[0]), path.read_text(encoding="utf-8")
