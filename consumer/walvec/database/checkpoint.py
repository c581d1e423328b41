"""The checkpoint: how far a slot's changes are embedded, and on which server.

It moves in the transaction that writes the vectors (`stages.write`). Here is its shape, and what commands do
with it.
"""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from walvec_slots.lsn import Lsn
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("metadata.sql")


class Landmark(NamedTuple):
    """A commit that changed a followed table.

    `xid` is the low 32 bits of its transaction id, `end` where its commit record ends.
    """

    xid: int
    end: Lsn


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far everything is embedded, and on which server.

    `unseen_xids` are the low 32 bits of transactions that were decoded but not visible yet. `landmark` is the
    last commit covered, None where it is not known.
    """

    system_identifier: int
    timeline: int
    lsn: Lsn
    unseen_xids: tuple[int, ...]
    landmark: Landmark | None = None


async def load_checkpoint(connection: Connection, slot: str) -> Checkpoint | None:
    """Return the slot's checkpoint, None before its first."""
    cursor = await connection.execute(_QUERIES["load_checkpoint"], {"slot": slot})
    row = await cursor.fetchone()
    if row is None:
        return None
    system_identifier, timeline, lsn, unseen_xids, commit_xid, commit_end = row
    landmark = Landmark(commit_xid, Lsn.parse(commit_end)) if commit_end else None
    return Checkpoint(system_identifier, timeline, Lsn.parse(lsn), tuple(unseen_xids), landmark)


async def take_over(connection: Connection, slot: str, holder: UUID, timeline: int) -> None:
    """Make `holder` the attachment that writes for the slot.

    Every earlier one can write nothing more. The checkpoint lies on `timeline`, the source's, from now on.
    """
    values = {"slot": slot, "holder": holder, "timeline": timeline}
    await connection.execute(_QUERIES["take_over"], values)


async def begin_checkpoint(connection: Connection, slot: str, checkpoint: Checkpoint) -> None:
    """Save where a new slot begins. The checkpoint that it replaces must be gone."""
    values = {
        "slot": slot,
        "system_identifier": checkpoint.system_identifier,
        "timeline": checkpoint.timeline,
        "lsn": str(checkpoint.lsn),
        "unseen_xids": list(checkpoint.unseen_xids),
    }
    await connection.execute(_QUERIES["begin_checkpoint"], values)


async def set_back(connection: Connection, slot: str, lsn: Lsn) -> None:
    """Set the checkpoint and the slot's vectorizers back to an earlier LSN.

    Both happen in one transaction.
    """
    await connection.execute(_QUERIES["set_back"], {"slot": slot, "lsn": str(lsn)})


async def delete_checkpoint(connection: Connection, slot: str) -> None:
    """Forget how far a slot's changes were applied."""
    await connection.execute(_QUERIES["delete_checkpoint"], {"slot": slot})
