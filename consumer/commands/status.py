"""`walvec status`: how far everything is, from the databases alone."""

from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import typer
from psycopg import sql
from psycopg.rows import dict_row

from consumer import metadata
from consumer.commands.output import byte_size, print_json, print_table
from consumer.commit import IDLE_BYTES
from consumer.config import Config, TableName
from consumer.database import Connection, connect_source, connect_target
from consumer.metadata import VectorizerState
from slots.errors import ConnectionLost
from slots.lsn import Lsn
from slots.queries import load

_QUERIES = load("status.sql")


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """The slot and its reader."""

    name: str
    exists: bool | None  # None: the source cannot be asked
    active: bool  # a stream is attached
    writer: bool  # a process holds the fence in the target
    wal_status: str | None
    confirmed_lsn: str | None
    checkpoint_lsn: str | None
    source_lsn: str | None
    lag_bytes: int | None
    lag_seconds: float | None  # since when the checkpoint stands still while changes wait
    retained_bytes: int | None
    safe_wal_bytes: int | None  # that may still be written before the slot is lost; None: no limit is set


@dataclass(frozen=True, slots=True)
class VectorizerStatus:
    """One vectorizer and its target."""

    name: str
    source_table: str
    target_table: str
    phase: str
    paused: str | None
    applied_lsn: str | None  # through which its changes are embedded
    rows_done: int  # by the backfill
    rows_estimated: int | None
    rows_per_second: float | None  # of the backfill
    seconds_left: float | None
    embedded_rows: int | None
    embedded_chunks: int | None
    dead_letters: int


async def status(config: Config, *, as_json: bool) -> None:
    """Print slot and vectorizers.

    Raises PreconditionFailed where nothing is set up.
    """
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(await connect_target(config, role="status"))
        await metadata.require_schema(target)
        try:
            source = await stack.enter_async_context(await connect_source(config, role="status"))
        except ConnectionLost as error:
            source = None
            typer.echo(f"walvec: {error.what}", err=True)
        slot = await _slot(config, source, target)
        states = (await metadata.load_vectorizers(target)).values()
        parked = await metadata.count_parked(target)
        vectorizers = [
            await _vectorizer(state, target, parked.get(state.name, 0), slot.checkpoint_lsn)
            for state in states
            if state.slot == slot.name
        ]
    if as_json:
        print_json({"slot": asdict(slot), "vectorizers": [asdict(each) for each in vectorizers]})
    else:
        _show(slot, vectorizers)


async def _slot(config: Config, source: Connection | None, target: Connection) -> SlotStatus:
    """Put together what both databases say; without the source, what the target alone knows."""
    name = config.source.slot
    row: dict[str, Any] = {}
    if source is not None:
        cursor = source.cursor(row_factory=dict_row)
        await cursor.execute(_QUERIES["slot_progress"], {"slot": name})
        row = await cursor.fetchone() or {}
    lsn, age, stalled = await (
        await target.execute(_QUERIES["checkpoint_age"], {"slot": name})
    ).fetchone() or (None, None, None)
    fenced = await (await target.execute(_QUERIES["writer_is_there"], {"slot": name})).fetchone()
    active, lag = bool(row.get("active")), row.get("lag_bytes")
    return SlotStatus(
        name=name,
        exists=row.get("confirmed_flush_lsn") is not None if source is not None else None,
        active=active,
        writer=fenced == (True,),
        wal_status=row.get("wal_status"),
        confirmed_lsn=row.get("confirmed_flush_lsn"),
        checkpoint_lsn=lsn,
        source_lsn=row.get("position"),
        lag_bytes=lag,
        lag_seconds=None if lag is None or age is None else _behind_for(lag, age, stalled, active=active),
        retained_bytes=row.get("retained_bytes"),
        safe_wal_bytes=row.get("safe_wal_size"),
    )


def _behind_for(lag_bytes: int, age: float, stalled: float | None, *, active: bool) -> float:
    """Return for how many seconds the slot is behind.

    A process at work says so when it stalls, and saves no checkpoint for a little WAL that is of no table.
    """
    if stalled is not None:
        return round(stalled, 1)
    return round(age, 1) if lag_bytes >= (IDLE_BYTES if active else 1) else 0.0


async def _vectorizer(
    state: VectorizerState, target: Connection, dead_letters: int, checkpoint: str | None
) -> VectorizerStatus:
    rows, chunks = await _coverage(state.target_table, target)
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
        rows_per_second=round(rate, 1) if rate else None,
        seconds_left=round(left, 1) if left is not None else None,
        embedded_rows=rows,
        embedded_chunks=chunks,
        dead_letters=dead_letters,
    )


async def _coverage(table: str, target: Connection) -> tuple[int | None, int | None]:
    name = sql.Identifier(*TableName.parse(table))
    try:
        cursor = await target.execute(sql.SQL(load("target.sql")["coverage"]).format(target=name))
    except psycopg.errors.UndefinedTable:
        return None, None
    ((rows, chunks),) = await cursor.fetchall()
    return rows, chunks


def _show(slot: SlotStatus, vectorizers: list[VectorizerStatus]) -> None:
    behind = "unknown"
    if slot.lag_bytes is not None and slot.lag_seconds is not None:
        behind = f"{byte_size(slot.lag_bytes)}, {slot.lag_seconds:.0f} s" if slot.lag_seconds else "no"
    print_table(
        ("slot", "process", "WAL kept", "behind", "checkpoint"),
        [(slot.name, _process(slot), byte_size(slot.retained_bytes), behind, slot.checkpoint_lsn or "none")],
        empty="",
    )
    typer.echo()
    print_table(
        ("vectorizer", "table", "target", "state", "rows", "chunks", "parked"),
        [
            (
                each.name,
                each.source_table,
                each.target_table,
                _state(each),
                each.embedded_rows,
                each.embedded_chunks,
                each.dead_letters,
            )
            for each in vectorizers
        ],
        empty="no vectorizer is set up",
    )


def _process(slot: SlotStatus) -> str:
    if slot.exists is None:
        return "source is away"
    if not slot.exists:
        return "slot does not exist"
    if slot.wal_status == "lost":
        return "slot is lost"
    return "streaming" if slot.active else ("starting" if slot.writer else "not running")


def _state(each: VectorizerStatus) -> str:
    if each.paused:
        return f"paused: {each.paused}"
    if each.phase == "rows":
        share = (
            f"{each.rows_done:,} of about {each.rows_estimated:,} rows"
            if each.rows_estimated is not None
            else "waiting"
        )
        return f"backfill: {share}"
    return {"sweep": "backfill: sweeping", "index": "building the index", "done": "in step"}[each.phase]
