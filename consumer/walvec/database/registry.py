"""The vectorizers that the target knows: slot, epoch and progress of each.

What must be in one transaction with the vectors is written by `stages.write`; here is the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from walvec.database.keys import Key
from walvec_slots.lsn import Lsn
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("metadata.sql")

Phase = Literal["rows", "sweep", "index", "done"]


@dataclass(frozen=True, slots=True)
class VectorizerState:
    """What `walvec.vectorizer` says of one vectorizer.

    `identity` is {} where no epoch has begun since it was set up, or since a command had it compared again.
    Before `waits_for_xid` all of the source's transactions have to end before its rows are read.
    """

    name: str
    slot: str
    source_table: str
    target_table: str
    fingerprint: dict[str, str]
    identity: dict[str, Any]
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
    waits_for_xid: int | None

    @property
    def applied(self) -> Lsn:
        """How far its changes are applied, where that is past the checkpoint; 0 otherwise."""
        return Lsn.parse(self.lsn) if self.lsn else Lsn(0)

    @property
    def horizon_lsn(self) -> Lsn:
        """The source's WAL insert position as the epoch began: see `read_horizon`."""
        return Lsn.parse(self.horizon)

    @property
    def resume_after(self) -> Key | None:
        """The last key that the present phase has done."""
        return tuple(self.last_key) if self.last_key is not None else None


async def load_vectorizers(connection: Connection) -> dict[str, VectorizerState]:
    """Return every vectorizer that the target knows, of any slot, by name."""
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
    """Begin an epoch: every row is compared again, and earlier writers are fenced.

    A process that attaches gives the `identity` it has found, as `horizon` the source's WAL insert position
    read after that, and `waits_for_xid`, before which all transactions must end before the rows are read. A
    command gives none of these: the next attachment then finds that the identity differs, and begins the
    epoch in which the rows are read.
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


async def pause_vectorizer(connection: Connection, name: str, reason: str) -> None:
    """Pause a vectorizer and save why; its next epoch ends the pause."""
    await connection.execute(_QUERIES["pause"], {"name": name, "reason": reason})


async def remove_vectorizer(connection: Connection, name: str) -> None:
    """Remove a vectorizer and its dead letters."""
    await connection.execute(_QUERIES["remove_vectorizer"], {"name": name})
