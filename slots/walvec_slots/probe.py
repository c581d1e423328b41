"""Check every precondition of the stream: one finding each, with its remedy.

This is what `walvec check` reports of the source. It leaves nothing behind: whether the plugin can be used is
tried with a temporary slot, dropped at once.
"""

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from walvec_slots import manage
from walvec_slots.catalog import QUERIES, statement
from walvec_slots.choice import choose_plugin, plugin_for, require_plugin, try_plugin
from walvec_slots.errors import PreconditionFailed, WalvecError
from walvec_slots.known_faults import faults_of, minor_to_upgrade_to
from walvec_slots.plugin import Plugin, PluginSetting
from walvec_slots.publication import (
    NotPublished,
    Publication,
    creation_statement,
    find_publication,
    published,
    require_leaves,
)
from walvec_slots.relation import Relation, describe, quoted
from walvec_slots.rights import DEFAULT_LIBRARIES, allow_libraries, grant_replication, hindrance
from walvec_slots.settle import require_readable

Level = Literal["ok", "warning", "failed"]

_OLDEST_VERSION: Final = 140000
_RESTART: Final = "then restart the server"


@dataclass(frozen=True, slots=True)
class Finding:
    """One precondition. `remedy` is what fixes it, where it does not hold.

    `error` is what a command raises that needs it; without one, PreconditionFailed with `detail`.
    """

    subject: str
    level: Level
    detail: str
    remedy: str | None = None
    error: WalvecError | None = field(default=None, compare=False)

    @classmethod
    def of(cls, subject: str, error: WalvecError) -> Self:
        """Report what a command would raise."""
        return cls(subject, "failed", error.what, error.hint, error)


def require(findings: Iterable[Finding]) -> None:
    """Raise the first finding that failed, as `check` words it."""
    for finding in findings:
        if finding.level == "failed":
            raise finding.error or PreconditionFailed(
                f"{finding.subject}: {finding.detail}", hint=finding.remedy
            )


async def probe(
    conn: psycopg.AsyncConnection[Any],
    *,
    slot: str,
    plugin: PluginSetting,
    publication: str,
    tables: Sequence[tuple[str, str]],
    own_publication: int | None = None,
    replaces_slot: bool = False,
) -> list[Finding]:
    """Check server, plugin, slot, tables (schema, name) and publication.

    `conn` is in autocommit. What `walvec setup` makes is a warning where it is missing. `own_publication` is
    the oid of the publication that setup may alter. `replaces_slot`: the slot will be replaced, so the plugin
    is the new one's. Raises only if the connection breaks.
    """
    state = await _state(conn)
    known = await manage.find_slot(conn, slot)
    findings = [*_server(state, conn.info.server_version), *_room(state, known)]
    ready = all(finding.level != "failed" for finding in findings)
    chosen = await _chosen(conn, plugin, None if replaces_slot else known)
    findings += [
        _encoding(conn, chosen),
        await _plugin(conn, chosen.name, state, known, ready=ready),
        _slot(slot, known, plugin, state),
    ]
    relations: list[Relation] = []
    async for finding, relation in _tables(conn, tables):
        findings.append(finding)
        relations += [relation] if relation else []
    existing = await find_publication(conn, publication)
    if existing is None:
        findings.append(await _new_publication(conn, publication, relations, state))
    else:
        own = existing.may_alter and existing.oid == own_publication
        findings += [
            finding async for finding in _publication(conn, publication, existing, chosen, relations, own=own)
        ]
    return findings


async def _chosen(
    conn: psycopg.AsyncConnection[Any], setting: PluginSetting, slot: manage.Slot | None
) -> Plugin:
    """Return the plugin that the slot has or will have.

    If it has one that this package does not decode, `_slot` reports that.
    """
    try:
        return await plugin_for(conn, setting, slot)
    except PreconditionFailed:
        return await choose_plugin(conn, setting)


async def probe_server(conn: psycopg.AsyncConnection[Any]) -> list[Finding]:
    """Check the server alone, in two round trips, as `walvec run` does at its start."""
    return [*_server(await _state(conn), conn.info.server_version)]


async def _state(conn: psycopg.AsyncConnection[Any]) -> DictRow:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["server_state"])
        state = await cursor.fetchone() or {}
        await cursor.execute(QUERIES["may_replicate"])
        return state | (await cursor.fetchone() or {})


def _server(state: DictRow, version: int) -> Iterator[Finding]:
    yield _found(
        "server version", version >= _OLDEST_VERSION, state["version"], "upgrade to PostgreSQL 14 or later"
    )
    if faults := faults_of(version):
        detail = f"{state['version']}: {'; '.join(fault.what for fault in faults)}"
        remedy = f"upgrade to PostgreSQL {minor_to_upgrade_to(faults, version)} or a later minor release"
        yield Finding("minor release", "warning", detail, remedy)
    wal_level = state["wal_level"]
    remedy = f"{QUERIES['set_wal_level']}, {_RESTART}"
    yield _found("wal_level", wal_level == "logical", wal_level, remedy)
    role, allowed = state["role"], state["allowed"]
    detail = f"{role} {'may' if allowed else 'may not'} replicate"
    yield _found("replication right", allowed, detail, grant_replication(role))


def _room(state: DictRow, slot: manage.Slot | None) -> Iterator[Finding]:
    yield _found(
        "replication slots",
        slot is not None or state["slots"] < state["max_slots"],
        f"{state['slots']} of {state['max_slots']} in use",
        _raise_limit("set_max_slots", state["max_slots"]),
    )
    yield _found(
        "WAL senders",
        (slot is not None and slot.active) or state["senders"] < state["max_senders"],
        f"{state['senders']} of {state['max_senders']} in use",
        _raise_limit("set_max_senders", state["max_senders"]),
    )
    yield _retention(state["keep_size"])


def _encoding(conn: psycopg.AsyncConnection[Any], plugin: Plugin) -> Finding:
    subject = "server encoding"
    try:
        require_readable(conn, plugin)
    except PreconditionFailed as error:
        return Finding.of(subject, error)
    return Finding(subject, "ok", conn.info.parameter_status("server_encoding") or "")


def _found(subject: str, good: bool, detail: str, remedy: str) -> Finding:  # noqa: FBT001 -- the verdict
    return Finding(subject, "ok", detail) if good else Finding(subject, "failed", detail, remedy)


def _raise_limit(query: str, limit: int) -> str:
    return f"{statement(query, number=sql.Literal(limit + 5))}, {_RESTART}"


def _retention(keep_size: str) -> Finding:
    subject = "max_slot_wal_keep_size"
    if keep_size != "-1":
        return Finding(subject, "ok", keep_size)
    return Finding(
        subject,
        "warning",
        "no limit: a slot that nobody reads can fill the disk",
        f"{QUERIES['set_keep_size']}; {QUERIES['reload']}",
    )


async def _plugin(
    conn: psycopg.AsyncConnection[Any], plugin: str, state: DictRow, slot: manage.Slot | None, *, ready: bool
) -> Finding:
    subject = f"output plugin {plugin}"
    allowed = None if state["libraries"] is None else _libraries(state["libraries"])
    # Several names given as one string allow none of them; the remedy splits the string.
    known = [name.strip() for entry in allowed or DEFAULT_LIBRARIES for name in entry.split(",")]
    remedy = allow_libraries(list(dict.fromkeys([plugin, *known])))
    if allowed is not None and plugin not in allowed:
        return Finding(subject, "failed", "not in output_plugin_libraries", remedy)
    if slot is not None and slot.plugin == plugin:
        return Finding(subject, "ok", "the slot has it")
    if not ready:
        detail = "not tried: a slot cannot be created yet"
        return Finding(subject, "warning", detail, "fix what failed, then run: walvec check")
    try:
        await try_plugin(conn, plugin)
    except WalvecError as error:
        return Finding.of(subject, error)
    return Finding(subject, "ok", "can be used")


def _libraries(setting: str) -> list[str]:
    """Return the names in output_plugin_libraries, a list of identifiers."""
    names = re.findall(r'"((?:[^"]|"")*)"|([^\s,"]+)', setting)
    return [quoted_name or bare for quoted_name, bare in names]


def _slot(name: str, slot: manage.Slot | None, setting: PluginSetting, state: DictRow) -> Finding:
    subject = f'slot "{name}"'
    if slot is None:
        return Finding(subject, "warning", "does not exist yet", "walvec setup")
    try:
        require_plugin(slot, setting)
    except PreconditionFailed as error:
        return Finding.of(subject, error)
    if slot.database != state["database"]:
        detail = f"belongs to the database {slot.database}"
        return Finding(subject, "failed", detail, "set [source] slot to another name")
    if slot.invalidation_reason is not None:
        return Finding(subject, "failed", f"is lost: {slot.invalidation_reason}", "walvec resync")
    held = f"held by process {slot.active_pid}" if slot.active else "free"
    return Finding(subject, "ok", f"{held}, keeps {slot.retained_bytes or 0} bytes of WAL")


async def _tables(
    conn: psycopg.AsyncConnection[Any], tables: Sequence[tuple[str, str]]
) -> AsyncIterator[tuple[Finding, Relation | None]]:
    for schema, name in tables:
        subject = f"table {quoted(schema, name)}"
        try:
            relation = await describe(conn, schema, name)
        except PreconditionFailed as error:
            yield Finding.of(subject, error), None
            continue
        detail = f"rows are identified by {', '.join(relation.key)}"
        yield Finding(subject, "ok", detail), relation
        if hindered := await hindrance(conn, relation):
            yield Finding(f"rows of {quoted(schema, name)}", "failed", *hindered), None


async def _new_publication(
    conn: psycopg.AsyncConnection[Any], publication: str, relations: Sequence[Relation], state: DictRow
) -> Finding:
    """Say whether setup can create the publication.

    Only the owner of every table can.
    """
    subject = f'publication "{publication}"'
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["publishing_rights"], {"oids": [relation.oid for relation in relations]})
        rights = await cursor.fetchone() or {}
    role = state["role"]
    if rights["not_owned"]:
        remedy = creation_statement(publication, relations)
        owned = ", ".join(rights["not_owned"])
        detail = f"does not exist, and {role} may not create it: it does not own {owned}"
        return Finding(subject, "failed", detail, f"as the owner of the tables: {remedy}")
    if not rights["may_create"]:
        database = sql.Identifier(state["database"])
        remedy = statement("grant_create", database=database, role=sql.Identifier(role))
        return Finding(subject, "failed", f"does not exist, and {role} may not create it", remedy)
    return Finding(subject, "warning", "does not exist yet", "walvec setup")


async def _publication(
    conn: psycopg.AsyncConnection[Any],
    publication: str,
    existing: Publication,
    plugin: Plugin,
    relations: Sequence[Relation],
    *,
    own: bool,
) -> AsyncIterator[Finding]:
    yield Finding(f'publication "{publication}"', "ok", f"exists, owned by role {existing.owner}")
    for relation in relations:
        table = quoted(relation.schema, relation.name)
        subject = f'{table} in publication "{publication}"'
        try:
            part = await published(conn, publication, relation)
            if plugin.applies_publication:
                require_leaves(part, publication)
        except NotPublished as error:
            if own and await _owns(conn, relation):
                yield Finding(subject, "warning", "is not published yet", "walvec setup")
                continue
            what = error.what if own else f"{error.what}, and setup alters only what it created"
            yield Finding.of(subject, NotPublished(f"{what} (owner: {existing.owner})", hint=error.hint))
        except PreconditionFailed as error:
            yield Finding.of(subject, error)
        else:
            yield Finding(subject, "ok", f"publishes {', '.join(sorted(part.actions))}")


async def _owns(conn: psycopg.AsyncConnection[Any], relation: Relation) -> bool:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["publishing_rights"], {"oids": [relation.oid]})
        row = await cursor.fetchone() or {}
    return not row["not_owned"]
