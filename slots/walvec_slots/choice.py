"""Which output plugin a slot has, or is to have.

A slot keeps its plugin for life, so another plugin means another slot. A new slot gets wal2json where the
server has it, allows it, and it can write the database's text; otherwise pgoutput, which is part of
PostgreSQL.
"""

from typing import Any, Final

import psycopg

from walvec_slots import manage
from walvec_slots.catalog import QUERIES
from walvec_slots.errors import PreconditionFailed, SlotBlocked
from walvec_slots.plugin import PGOUTPUT, PLUGINS, WAL2JSON, Plugin, PluginSetting

# SQLSTATEs: the library is missing, or is not allowed.
_UNUSABLE: Final = {"58P01", "42501"}

# How long to wait for a temporary slot. The server loads the plugin before it waits for transactions.
TRIAL_TIME_LIMIT: Final = 1.0  # seconds


def require_plugin(slot: manage.Slot, setting: PluginSetting) -> Plugin:
    """Return the plugin of a slot.

    Raises PreconditionFailed for a plugin that this package does not decode, or one that is not as set.
    """
    plugin = PLUGINS.get(slot.plugin or "")
    if plugin is None:
        how = f"uses the plugin {slot.plugin}" if slot.plugin else "is a physical slot"
        raise PreconditionFailed(f'Slot "{slot.name}" {how}', hint="set [source] slot to another name")
    if setting not in {"auto", plugin.name}:
        raise PreconditionFailed(
            f'Slot "{slot.name}" uses the plugin {plugin.name}, but [source] plugin is {setting}',
            hint="run: walvec resync (a new slot; nothing is embedded again), "
            f'or set plugin = "{plugin.name}"',
        )
    return plugin


async def plugin_for(
    conn: psycopg.AsyncConnection[Any], setting: PluginSetting, slot: manage.Slot | None
) -> Plugin:
    """Return the plugin of the slot, or of a new one where there is none.

    Raises as `require_plugin` does.
    """
    return await choose_plugin(conn, setting) if slot is None else require_plugin(slot, setting)


async def choose_plugin(conn: psycopg.AsyncConnection[Any], setting: PluginSetting) -> Plugin:
    """Return the plugin for a new slot; `conn` is in autocommit."""
    if setting != "auto":
        return PLUGINS[setting]
    cursor = await conn.execute(QUERIES["is_utf8"])
    if await cursor.fetchone() != (True,):
        return PGOUTPUT
    try:
        await try_plugin(conn, WAL2JSON.name)
    except PreconditionFailed as error:
        cause = error.__cause__
        if isinstance(cause, psycopg.Error) and cause.sqlstate in _UNUSABLE:
            return PGOUTPUT
        # Any other failure concerns every plugin, and is reported when the slot is created.
    return WAL2JSON


async def try_plugin(conn: psycopg.AsyncConnection[Any], plugin: str) -> None:
    """Try the plugin with a temporary slot, dropped at once.

    Raises PreconditionFailed where a slot of the plugin cannot be created.
    """
    trial = f"walvec_probe_{conn.info.backend_pid}"
    try:
        await manage.create_slot(conn, trial, plugin, time_limit=TRIAL_TIME_LIMIT, temporary=True)
    except SlotBlocked:
        # It waited for other transactions, so the plugin had been loaded.
        return
    await manage.drop_slot(conn, trial)
