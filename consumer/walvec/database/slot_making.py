"""How walvec creates its slots, so that they are what [source] failover says.

setup, resync, replay and `walvec slots` all create them here.
"""

from walvec.config.load import Config
from walvec.database.connect import conninfo
from walvec_slots.failover import failover_wanted, set_failover
from walvec_slots.lsn import Lsn
from walvec_slots.manage import Slot, copy_slot, create_slot, drop_slot
from walvec_slots.settle import Connection


async def make_slot(
    config: Config, connection: Connection, name: str, plugin: str, *, time_limit: float
) -> Lsn:
    """Create a slot; return where its stream begins. Raises as `create_slot` does."""
    failover = failover_wanted(config.source.failover, connection.info.server_version)
    return await create_slot(connection, name, plugin, time_limit=time_limit, failover=failover)


async def make_copy(config: Config, connection: Connection, original: str, name: str) -> Lsn:
    """Copy a slot; return where the copy's stream begins. Raises as `copy_slot` does.

    The server makes an ordinary slot of every copy. It is turned into a failover slot afterwards, and dropped
    if that fails.
    """
    failover = failover_wanted(config.source.failover, connection.info.server_version)
    lsn = await copy_slot(connection, original, name)
    if failover:
        try:
            await mark_failover(config, name, failover=True)
        except BaseException:
            # Cancellation included.
            await drop_slot(connection, name)
            raise
    return lsn


async def mark_failover(config: Config, name: str, *, failover: bool) -> None:
    """Turn a slot that nobody reads into a failover slot, or into an ordinary one."""
    await set_failover(conninfo(config.source_dsn, "setup"), name, failover=failover)


def differs_in_failover(config: Config, connection: Connection, slot: Slot) -> bool:
    """Whether a slot is not what [source] failover says.

    Raises PreconditionFailed if the setting demands failover slots and the server has none.
    """
    wanted = failover_wanted(config.source.failover, connection.info.server_version)
    return slot.failover is not None and slot.failover != wanted
