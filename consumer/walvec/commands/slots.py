"""`walvec slots`: lists and manages the source's replication slots.

Whatever cannot be undone first says what would be lost. If walvec's own slot is moved here, the next `run`
notices that and stops.
"""

from dataclasses import asdict

from walvec.commands.output import confirm, print_json, print_table, say
from walvec.config.load import Config
from walvec.database.connect import connect_source, connect_source_for_changes
from walvec.database.slot_making import make_copy, make_slot
from walvec.errors import UsageInvalid
from walvec.units import byte_size
from walvec_slots import manage
from walvec_slots.choice import choose_plugin
from walvec_slots.errors import PreconditionFailed, SlotActive
from walvec_slots.lsn import Lsn
from walvec_slots.manage import Slot
from walvec_slots.settle import Connection


async def show(config: Config, *, as_json: bool) -> None:
    """List the server's slots."""
    async with await connect_source(config, role="slots") as connection:
        slots = await manage.list_slots(connection)
    if as_json:
        print_json([_document(slot) for slot in slots])
        return
    print_table(
        ("slot", "plugin", "database", "reader", "confirmed", "behind", "keeps back", "state"),
        [_row(slot) for slot in slots],
        empty="The server has no slots. `walvec setup` creates walvec's.",
    )


async def create(config: Config, name: str | None, time_limit: float) -> None:
    """Create a slot, by default the configured one, within `time_limit` seconds."""
    name = name or config.source.slot
    async with await connect_source_for_changes(config) as connection:
        plugin = await choose_plugin(connection, config.source.plugin)
        lsn = await make_slot(config, connection, name, plugin.name, time_limit=time_limit)
    say(f"created {name}, which keeps every change from {lsn} on")


async def drop(config: Config, name: str, *, sure: bool) -> None:
    """Drop a slot, after saying what its reader loses."""
    async with await connect_source_for_changes(config) as connection:
        slot = await find_idle(connection, name)
        loss = (
            f"{byte_size(slot.unconfirmed_bytes)} of WAL that the reader of {name} has not confirmed are lost"
        )
        confirm(loss + _own(config, name), sure=sure)
        await manage.drop_slot(connection, name)
    say(f"dropped {name}")


async def copy(config: Config, name: str, new: str) -> None:
    """Copy a slot under a new name."""
    async with await connect_source_for_changes(config) as connection:
        lsn = await make_copy(config, connection, name, new)
    say(f"copied {name} to {new}, which begins at {lsn}")


async def advance(config: Config, name: str, position: str, *, sure: bool) -> None:
    """Move a slot forward to a position, after saying what is skipped."""
    lsn = parse_lsn(position)
    async with await connect_source_for_changes(config) as connection:
        slot = await find_idle(connection, name)
        start = slot.confirmed_flush_lsn or Lsn(0)
        if lsn <= start:
            raise UsageInvalid(f"{name} is at {start} already", hint="a slot cannot be moved back")
        loss = f"The reader of {name} will never see what was committed from {start} to {lsn}"
        confirm(f"{loss} ({byte_size(lsn - start)} of WAL){_own(config, name)}", sure=sure)
        reached = await manage.advance_slot(connection, name, lsn)
    say(f"{name} continues at {reached}")


def parse_lsn(position: str) -> Lsn:
    """Parse a position in the WAL. Raises UsageInvalid."""
    try:
        return Lsn.parse(position)
    except ValueError:
        raise UsageInvalid(f"{position!r} is not an LSN", hint="write it like 16/B374D848") from None


async def find_idle(connection: Connection, name: str) -> Slot:
    """Look a slot up.

    Raises PreconditionFailed if it does not exist, SlotActive while it is being read.
    """
    slot = await manage.find_slot(connection, name)
    if slot is None:
        raise PreconditionFailed(f'Slot "{name}" does not exist', hint="list them: walvec slots list")
    if slot.active:
        raise SlotActive(f'Process {slot.active_pid} reads slot "{name}"', hint="stop it first")
    return slot


def _own(config: Config, name: str) -> str:
    """Say what it means if the slot is the one that `walvec run` reads."""
    if name != config.source.slot:
        return ""
    return "\nThis is the slot of `walvec run`, which will stop. Afterwards run: walvec resync"


def _row(slot: Slot) -> tuple[object, ...]:
    reader = f"pid {slot.active_pid}" if slot.active else "nobody"
    return (
        slot.name,
        slot.plugin or "physical",
        slot.database,
        reader,
        slot.confirmed_flush_lsn,
        byte_size(slot.unconfirmed_bytes),
        byte_size(slot.retained_bytes),
        slot.invalidation_reason or slot.wal_status,
    )


def _document(slot: Slot) -> dict[str, object]:
    """Return the slot for JSON, with positions as PostgreSQL writes them."""
    return {name: str(value) if isinstance(value, Lsn) else value for name, value in asdict(slot).items()}
