"""Which output plugin a slot has, or is to have.

A slot's plugin is for life, so another one is another slot. A new slot gets wal2json where the server has and
allows it and it can write the database's text; otherwise pgoutput, which is part of PostgreSQL.
"""

from typing import Any, Final

import psycopg

from walvec_slots import manage
from walvec_slots.catalog import QUERIES
from walvec_slots.errors import PreconditionFailed, SlotBlocked
from walvec_slots.plugin import PGOUTPUT, PLUGINS, WAL2JSON, Plugin, PluginSetting

_UNUSABLE: Final = {"58P01", "42501"}  # SQLSTATEs: the library is missing, or not allowed
TRIAL_TIME_LIMIT: Final = 1.0  # seconds for a temporary slot; the plugin is loaded before any waiting


def require_plugin(slot: manage.Slot, setting: PluginSetting) -> Plugin:
    """Return the plugin of a slot. Raises PreconditionFailed where it is none of ours, or not as set."""
    plugin = PLUGINS.get(slot.plugin or "")
    if plugin is None:
        how = f"uses the plugin {slot.plugin}" if slot.plugin else "is a physical slot"
        raise PreconditionFailed(f'slot "{slot.name}" {how}', hint="set [source] slot to another name")
    if setting not in {"auto", plugin.name}:
        raise PreconditionFailed(
            f'slot "{slot.name}" uses the plugin {plugin.name}, and [source] plugin is {setting}',
            hint="run: walvec resync (a new slot, nothing is embedded again), "
            f'or set plugin = "{plugin.name}"',
        )
    return plugin


async def plugin_for(
    conn: psycopg.AsyncConnection[Any], setting: PluginSetting, slot: manage.Slot | None
) -> Plugin:
    """Return the plugin of the slot, or of a new one where there is none; raises as `require_plugin`."""
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
        # Anything else is in the way of every plugin, and said when the slot is created.
    return WAL2JSON


async def try_plugin(conn: psycopg.AsyncConnection[Any], plugin: str) -> None:
    """Raise PreconditionFailed where a slot of the plugin cannot be made; tried with a temporary one."""
    trial = f"walvec_probe_{conn.info.backend_pid}"
    try:
        await manage.create_slot(conn, trial, plugin, time_limit=TRIAL_TIME_LIMIT, temporary=True)
    except SlotBlocked:
        return  # it waits for others: the plugin was loaded before that
    await manage.drop_slot(conn, trial)
