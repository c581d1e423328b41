"""Reads both databases for `walvec status`; no process has to run.

The order of the queries matters. The slot is read before the checkpoint, which is never behind what the slot
was sent; so a slot that seems to be ahead really is.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from psycopg.rows import dict_row

from walvec.commands.status.counting import Counting, Held
from walvec.config.load import Config
from walvec.database.connect import connect_source, connect_target
from walvec.database.dead_letters import count_parked, count_retried
from walvec.database.fence import find_holder
from walvec.database.migrate import require_schema
from walvec.database.registry import VectorizerState, load_vectorizers
from walvec.database.standbys import Gap, find_gaps, read_standbys
from walvec.database.waiting import HELD_UP_AFTER, WaitingStatement, look_at_process
from walvec_slots.errors import ConnectionLost
from walvec_slots.failover import FIRST_VERSION, failover_wanted
from walvec_slots.lsn import Lsn
from walvec_slots.manage import find_slot
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("status.sql")
_POSITION = load_sql("source.sql")["position"]


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """The slot and its reader. Times in seconds, sizes in bytes; None if unknown."""

    name: str
    # None if the source cannot be reached.
    exists: bool | None
    # Whether a stream is attached, and the server process that serves it.
    active: bool
    reader_pid: int | None
    # Whether a session holds the fence in the target, and which one.
    writer: bool
    holder: str | None
    wal_status: str | None
    confirmed_lsn: str | None
    checkpoint_lsn: str | None
    source_lsn: str | None
    # Whether the checkpoint belongs to this server and its present timeline.
    same_server: bool | None
    # Whether it belongs to this server on a later timeline.
    old_primary: bool
    # Whether the server was promoted since the checkpoint, and has its copy of the slot.
    promoted: bool
    # Whether standbys keep a copy of the slot; None if the server has no such slots.
    failover: bool | None
    # What a promotion would fail on, as far as the primary shows it.
    failover_gaps: tuple[Gap, ...]
    lag_bytes: int | None
    # Age of the checkpoint.
    checkpoint_seconds: float | None
    # For how long the checkpoint has been waiting for work; 0 if it waits for none.
    lag_seconds: float | None
    # The same, as a running process says; None if it says that nothing waits.
    stalled_seconds: float | None
    # What that work waits for, if that is known.
    waits_for: str | None
    # Age of the server's newest commit; only with track_commit_timestamp.
    newest_commit_seconds: float | None
    retained_bytes: int | None
    # WAL that can still be written before the slot is lost; None without a limit.
    safe_wal_bytes: int | None


@dataclass(frozen=True, slots=True)
class VectorizerStatus:
    """One vectorizer and its target."""

    name: str
    source_table: str
    target_table: str
    phase: str
    paused: str | None
    # The position through which its changes are embedded.
    applied_lsn: str | None
    # The backfill's progress.
    rows_done: int
    rows_estimated: int | None
    rows_per_second: float | None
    seconds_left: float | None
    embedded_rows: int | None
    embedded_chunks: int | None
    # Whether the two above took too long to count.
    estimated: bool
    # Rows that have no text, or that `where` excludes.
    rows_without_text: int | None
    # Since the server's statistics began.
    chunks_written: int | None
    dead_letters: int
    # Of these, the ones that are retried by themselves; the others need attention.
    dead_letters_retried: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was read at one time."""

    at: datetime
    slot: SlotStatus
    vectorizers: tuple[VectorizerStatus, ...]


class Reader:
    """Holds a session on each database and reads them on demand.

    An async context manager.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._source: Connection | None = None
        self._target: Connection | None = None
        self._counting = Counting()
        # Why the source could not be read, if so.
        self.source_failure: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await _close(self._source)
        await _close(self._target)

    async def read(self) -> Report:
        """Read both databases; sessions that have ended are opened again.

        Raises PreconditionFailed if nothing is set up, ConnectionLost while the target cannot be reached.
        """
        target = await self._open_target()
        self._counting.begin()
        source = await self._open_source()
        slot = await self._slot(source, target)
        parked, retried = await count_parked(target), await count_retried(target)
        states = (await load_vectorizers(target)).values()
        vectorizers = [
            await self._vectorizer(
                state,
                source,
                target,
                (parked.get(state.name, 0), retried.get(state.name, 0)),
                slot.checkpoint_lsn,
            )
            for state in states
            if state.slot == slot.name
        ]
        return Report(datetime.now(UTC), slot, tuple(vectorizers))

    async def _open_target(self) -> Connection:
        if self._target is None or self._target.closed:
            await _close(self._target)
            self._target = await connect_target(self._config, role="status")
            await require_schema(self._target)
        return self._target

    async def _open_source(self) -> Connection | None:
        """Return the source's session; None while the source cannot be reached."""
        if self._source is None or self._source.closed:
            await _close(self._source)
            self._source = None
            try:
                self._source = await connect_source(self._config, role="status")
            except ConnectionLost as error:
                self.source_failure = error.what
                return None
        self.source_failure = None
        return self._source

    async def _slot(self, source: Connection | None, target: Connection) -> SlotStatus:
        name = self._config.source.slot
        row, server = await _progress(source, name)
        checkpoint = await _row(target, "checkpoint_age", name)
        if _passes(checkpoint.get("lsn"), row.get("position")):
            # The checkpoint was probably written between the two reads.
            row, server = await _progress(source, name)
        holder = await find_holder(target, name)
        active, lag = bool(row.get("active")), row.get("lag_bytes")
        age = checkpoint.get("age")
        statement = await look_at_process(target, holder.pid) if holder else None
        stalled, waits_for = _stalled(checkpoint, statement)
        same = None
        if server and checkpoint:
            same = server == (checkpoint["system_identifier"], checkpoint["timeline"])
        return SlotStatus(
            name=name,
            exists=row.get("confirmed_flush_lsn") is not None if source is not None else None,
            active=active,
            reader_pid=row.get("active_pid"),
            writer=holder is not None,
            holder=str(holder) if holder else None,
            wal_status=row.get("wal_status"),
            confirmed_lsn=row.get("confirmed_flush_lsn"),
            checkpoint_lsn=checkpoint.get("lsn"),
            source_lsn=row.get("position"),
            same_server=same,
            old_primary=bool(server and checkpoint and _is_old(server, checkpoint)),
            promoted=bool(server and checkpoint and row.get("came_along") and _is_newer(server, checkpoint)),
            failover=row.get("failover"),
            failover_gaps=await _gaps(self._config, source),
            lag_bytes=lag,
            checkpoint_seconds=_rounded(age),
            lag_seconds=None if lag is None or age is None else behind_for(lag, age, stalled, active=active),
            stalled_seconds=_rounded(stalled),
            waits_for=waits_for,
            newest_commit_seconds=_rounded(row.get("newest_commit_seconds")),
            retained_bytes=row.get("retained_bytes"),
            safe_wal_bytes=row.get("safe_wal_size"),
        )

    async def _vectorizer(
        self,
        state: VectorizerState,
        source: Connection | None,
        target: Connection,
        dead_letters: tuple[int, int],
        checkpoint: str | None,
    ) -> VectorizerStatus:
        held = await self._counting.held(state.target_table, target)
        seconds = ((state.finished_at or datetime.now(UTC)) - state.started_at).total_seconds()
        rate = state.rows_done / seconds if state.rows_done and seconds else None
        left = None
        if state.phase == "rows" and rate and state.rows_estimated is not None:
            left = max(state.rows_estimated - state.rows_done, 0) / rate
        return VectorizerStatus(
            name=state.name,
            source_table=state.source_table,
            target_table=state.target_table,
            phase=state.phase,
            paused=state.paused,
            applied_lsn=str(max(state.applied, Lsn.parse(checkpoint))) if checkpoint else None,
            rows_done=state.rows_done,
            rows_estimated=state.rows_estimated,
            rows_per_second=_rounded(rate),
            seconds_left=_rounded(left),
            embedded_rows=held.rows,
            embedded_chunks=held.chunks,
            estimated=held.estimated,
            rows_without_text=await self._rows_without_text(state, source, held, dead_letters[0]),
            chunks_written=held.written,
            dead_letters=dead_letters[0],
            dead_letters_retried=dead_letters[1],
        )

    async def _rows_without_text(
        self, state: VectorizerState, source: Connection | None, held: Held, parked: int
    ) -> int | None:
        """Count rows with neither embedding nor dead letter, after the backfill."""
        if source is None or held.rows is None or state.phase != "done" or state.paused:
            return None
        leaves = [(schema, name) for _, schema, name, _ in state.identity.get("leaves", ())]
        rows = await self._counting.rows_of(leaves, source)
        return None if rows is None else max(rows - held.rows - parked, 0)


async def _close(connection: Connection | None) -> None:
    if connection is not None:
        await connection.close()


async def _progress(source: Connection | None, slot: str) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """Read the slot's progress, and the server's identifier and timeline."""
    if source is None:
        return {}, None
    row = await _row(source, "slot_progress", slot)
    cursor = await source.execute(_POSITION, {})
    ((system_identifier, timeline, _),) = await cursor.fetchall()
    return row, (system_identifier, timeline)


async def _row(connection: Connection, query: str, slot: str) -> dict[str, Any]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(_QUERIES[query], {"slot": slot})
    return await cursor.fetchone() or {}


def behind_for(lag_bytes: int, age: float, stalled: float | None, *, active: bool) -> float:
    """Return for how many seconds the slot has been behind.

    A running process says so itself: WAL alone proves nothing, because it may come from walvec or from other
    tables. While no process runs, any of the WAL may be work.
    """
    if stalled is not None:
        return round(stalled, 1)
    return round(age, 1) if lag_bytes > 0 and not active else 0.0


def _stalled(
    checkpoint: dict[str, Any], statement: WaitingStatement | None
) -> tuple[float | None, str | None]:
    """Return for how long work has been waiting, and why.

    The process says so itself; while it hangs in a statement, the server says so of that statement.
    """
    stalled, waits_for = checkpoint.get("stalled"), checkpoint.get("waits_for")
    seconds = (statement and statement.seconds) or 0.0
    if statement and seconds >= HELD_UP_AFTER and (reason := statement.reason()):
        return max(stalled or 0.0, seconds), reason
    return stalled, waits_for


async def _gaps(config: Config, source: Connection | None) -> tuple[Gap, ...]:
    """Inspect slot and standbys, if the server has failover slots and standbys."""
    if source is None or source.info.server_version < FIRST_VERSION:
        return ()
    name, standbys = config.source.slot, await read_standbys(source)
    if not (standbys.listed or standbys.connected or standbys.without_slot):
        return ()
    wanted = failover_wanted(config.source.failover, source.info.server_version)
    return tuple(find_gaps(await find_slot(source, name), standbys, name, wanted=wanted))


def _is_newer(server: tuple[int, int], checkpoint: dict[str, Any]) -> bool:
    return server[0] == checkpoint["system_identifier"] and bool(server[1] > checkpoint["timeline"])


def _is_old(server: tuple[int, int], checkpoint: dict[str, Any]) -> bool:
    return server[0] == checkpoint["system_identifier"] and bool(server[1] < checkpoint["timeline"])


def _passes(checkpoint: str | None, position: str | None) -> bool:
    return checkpoint is not None and position is not None and Lsn.parse(checkpoint) > Lsn.parse(position)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
