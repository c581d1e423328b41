"""Whether a promoted standby could go on with the slot.

It is judged by what the primary shows, and the standbys that [source] dsn names beside it. What is missing
breaks nothing yet, so it is a warning; after a failover it would take `walvec resync`.
docs/operations/recovery.md says what each setting is for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import DictRow, dict_row

from walvec.config.load import Config
from walvec.database.connect import connect_source_host, single_hosts
from walvec_slots.catalog import QUERIES, statement
from walvec_slots.errors import ConnectionLost, PreconditionFailed
from walvec_slots.failover import FIRST_VERSION, failover_wanted
from walvec_slots.manage import Slot, find_slot
from walvec_slots.probe import Finding
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

_QUERIES = load_sql("failover.sql")
_RELOAD = QUERIES["reload"]


@dataclass(frozen=True, slots=True)
class Standbys:
    """What the primary knows of its standbys. None is what this role may not see.

    The stream waits for the slots `listed` in synchronized_standby_slots. `connected` are the physical slots
    in use, usually by standbys. `synchronised` says whether a standby is copying slots, `without_slot` how
    many standbys follow without a slot.
    """

    listed: tuple[str, ...]
    connected: tuple[str, ...]
    synchronised: bool | None
    without_slot: int | None

    @property
    def awaited(self) -> tuple[str, ...]:
        """The slots for which the stream waits, because no standby uses them."""
        return tuple(name for name in self.listed if name not in self.connected)


@dataclass(frozen=True, slots=True)
class StandbyState:
    """What a standby says of itself and of its copy of the slot.

    `primary_slot` is None if this role may not see it. A copy that is `temporary` is not complete yet.
    """

    host: str
    synchronises: bool
    feedback: bool
    primary_slot: str | None
    has_slot: bool
    synced: bool
    temporary: bool
    invalidation_reason: str | None


@dataclass(frozen=True, slots=True)
class Gap:
    """One thing on which a failover would fail; `remedy` is what fixes it.

    With `holds_up`, the stream already waits for it.
    """

    subject: str
    detail: str
    remedy: str
    holds_up: bool = False


async def failover_findings(config: Config, connection: Connection, *, hosts: bool) -> list[Finding]:
    """Inspect slot and primary, and with `hosts` the standbys in [source] dsn."""
    name, version = config.source.slot, connection.info.server_version
    subject = f'failover of slot "{name}"'
    try:
        wanted = failover_wanted(config.source.failover, version)
    except PreconditionFailed as error:
        return [Finding.of(subject, error)]
    if version < FIRST_VERSION:
        detail = "the server has no failover slots, so a promotion needs walvec resync"
        return [Finding(subject, "ok", detail)]
    slot = await find_slot(connection, name)
    standbys = await read_standbys(connection)
    found = [*find_gaps(slot, standbys, name, wanted=wanted)]
    if wanted and hosts:
        for place, dsn in single_hosts(config.source_dsn):
            found += await _inspect_host(place, dsn, name)
    if not found:
        return [Finding(subject, "ok", _in_order(standbys, wanted=wanted))]
    return [Finding(gap.subject, "warning", gap.detail, gap.remedy) for gap in found]


def _in_order(standbys: Standbys, *, wanted: bool) -> str:
    if not wanted:
        return "off: a promotion needs walvec resync"
    return f"prepared for {', '.join(standbys.listed)}" if standbys.listed else "prepared; no standby follows"


async def read_standbys(connection: Connection) -> Standbys:
    """Ask the primary for its standbys."""
    row = await _row(connection, "standbys")
    return Standbys(
        listed=slot_names(row["listed"] or ""),
        connected=tuple(row["connected"]),
        synchronised=row["synchronised"],
        without_slot=row["without_slot"],
    )


def slot_names(setting: str) -> tuple[str, ...]:
    """Return the names in synchronized_standby_slots, which may be quoted."""
    return tuple(name for part in setting.split(",") if (name := part.strip().strip('"')))


def find_gaps(slot: Slot | None, standbys: Standbys, name: str, *, wanted: bool) -> Iterator[Gap]:
    """Yield what is wrong on the primary, first what holds up the stream.

    `slot` is None before `walvec setup` has created it.
    """
    is_failover = bool(slot and slot.failover)
    if is_failover and standbys.awaited:
        yield _awaited(standbys)
    if slot and is_failover != wanted:
        detail = (
            "is not prepared: it is an ordinary slot" if wanted else "is prepared, but the setting is false"
        )
        yield Gap(f'failover of slot "{name}"', detail, "stop walvec run, then run: walvec setup")
    if not wanted:
        return
    if standbys.without_slot:
        remedy = (
            f"{_QUERIES['create_standby_slot']}; on the standby: {_QUERIES['use_standby_slot']}; {_RELOAD}"
        )
        yield Gap("primary_slot_name", "a standby follows without a slot, so it cannot be waited for", remedy)
    if standbys.connected and not standbys.listed:
        detail = "names no standby: walvec may embed changes that a standby lacks when it is promoted"
        yield Gap("synchronized_standby_slots", detail, _wait_for(standbys.connected))
    if standbys.connected and standbys.synchronised is False:
        detail = "no standby is copying slots, which also needs dbname in its primary_conninfo"
        settings = f"{_QUERIES['synchronise_slots']}; {_QUERIES['give_feedback']}"
        yield Gap("sync_replication_slots", detail, f"on the standby: {settings}; {_RELOAD}")


def _awaited(standbys: Standbys) -> Gap:
    """Say for which standbys the stream waits."""
    names = ", ".join(standbys.awaited)
    left = [name for name in standbys.listed if name in standbys.connected]
    return Gap(
        "synchronized_standby_slots",
        f"names {names}, which no standby uses, so changes wait for it",
        f"start the standby, or run: {_wait_for(left)}",
        holds_up=True,
    )


def _wait_for(names: Sequence[str]) -> str:
    """Return the statements that let the stream wait for these slots alone."""
    listed = sql.SQL(", ").join(map(sql.Literal, names or [""]))
    return f"{sql.SQL(_QUERIES['wait_for_standbys']).format(slots=listed).as_string()}; {_RELOAD}"


async def _inspect_host(place: str, dsn: str, slot: str) -> list[Gap]:
    """Inspect one server in [source] dsn. The primary has no gaps here."""
    try:
        connection = await connect_source_host(dsn)
    except (ConnectionLost, PreconditionFailed):
        detail = "cannot be reached, so the state of its slots is unknown"
        return [Gap(f"server {place}", detail, "start it, or remove it from [source] dsn")]
    async with connection:
        state = await _read_state(connection, place, slot)
    return [*find_standby_gaps(state, slot)] if state else []


async def _read_state(connection: Connection, place: str, slot: str) -> StandbyState | None:
    """Read what a promotion needs of a server. Returns None for the primary."""
    row = await _row(connection, "on_standby", slot=slot)
    if not row:
        return None
    synchronises, feedback = row.pop("synchronises") == "on", row.pop("feedback") == "on"
    return StandbyState(host=place, synchronises=synchronises, feedback=feedback, **row)


def find_standby_gaps(state: StandbyState, slot: str) -> Iterator[Gap]:
    """Yield what would prevent a standby from serving the slot once it is promoted."""
    if not state.synchronises:
        remedy = f"there: {_QUERIES['synchronise_slots']}; {_RELOAD}"
        yield Gap(f"sync_replication_slots on {state.host}", "copies no slots", remedy)
    if not state.feedback:
        remedy = f"there: {_QUERIES['give_feedback']}; {_RELOAD}"
        yield Gap(f"hot_standby_feedback on {state.host}", "is off, so no slot is copied", remedy)
    if state.primary_slot == "":
        remedy = f"{_QUERIES['create_standby_slot']}; there: {_QUERIES['use_standby_slot']}; {_RELOAD}"
        yield Gap(f"primary_slot_name on {state.host}", "is empty, so no slot is copied", remedy)
    subject = f'slot "{slot}" on {state.host}'
    if state.has_slot and not state.synced:
        remedy = f"there: {statement('drop_one_slot', slot=sql.Literal(slot))}"
        yield Gap(subject, "was created on the standby, and prevents a copy", remedy)
    elif state.invalidation_reason:
        detail = f"is a copy that was invalidated: {state.invalidation_reason}"
        yield Gap(subject, detail, "wait until the standby has copied the slot again")
    elif state.synchronises and (not state.has_slot or state.temporary):
        remedy = "wait for the next commit that walvec embeds; if that does not help, read the standby's log"
        yield Gap(subject, "is not completely copied yet", remedy)


async def _row(connection: Connection, query: str, **values: str) -> DictRow:
    """Run one of this module's queries; {} if it returns no row."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_QUERIES[query], values)
        return await cursor.fetchone() or {}
