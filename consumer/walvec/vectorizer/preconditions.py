"""Everything that must be so before walvec can work, looked at one by one; changes nothing.

One list for all: `check` prints every finding, `setup` and `resync` raise the first that fails, and `run`
those that it can ask for quickly, beside what it finds as it binds the vectorizers.

`walvec_slots.probe` has the source's own: WAL level, slot, plugin, publication, replica identities. Here are
the expressions, the target database and its tables, and the embedder. What `walvec setup` will create is no
failure; what stops setup or run is one, and comes with the statement that mends it.
"""

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from walvec.config.load import Config, TableName, Vectorizer, fingerprint
from walvec.database.checkpoint import Checkpoint, load_checkpoint
from walvec.database.connect import connect_source, connect_target
from walvec.database.continuity import look_at_server, require_continuity, was_promoted
from walvec.database.migrate import is_migrated, outdated
from walvec.database.ownership import (
    Ownership,
    load_ledger,
    require_free_target,
    require_own_schema,
    require_own_slot,
    require_own_table,
)
from walvec.database.pgvector import require_vectors
from walvec.database.promotion import look_for_fork
from walvec.database.registry import VectorizerState, load_vectorizers
from walvec.database.standbys import failover_findings
from walvec.embed.dispatch import ask
from walvec.embed.protocol import open_embedder
from walvec.embed.vectors import MAX_VECTOR_DIMENSIONS
from walvec.vectorizer.admission import require_fingerprint
from walvec.vectorizer.bind import Binding, bind_to, resolve_expressions
from walvec.vectorizer.creators import look_for_creators
from walvec.vectorizer.expressions import doubts
from walvec.vectorizer.target import TargetTable
from walvec_slots.errors import PreconditionFailed, WalvecError
from walvec_slots.failover import failover_wanted
from walvec_slots.manage import list_slots
from walvec_slots.probe import Finding, probe, probe_server, require
from walvec_slots.publication import PublishAction, Published, find_publication, published
from walvec_slots.queries import load_sql
from walvec_slots.relation import describe
from walvec_slots.settle import Connection, require_utf8

_QUERIES = load_sql("check.sql")

_FIRST_WITH_HNSW = (0, 5)
_FIRST_WITH_HALFVEC = (0, 7)

METADATA_SCHEMA = "walvec"

_ALL_ACTIONS: Final[frozenset[PublishAction]] = frozenset({"insert", "update", "delete", "truncate"})
_TEST_TEXT = "walvec asks whether the embedder answers."


@dataclass(frozen=True, slots=True)
class Records:
    """What the target database says of earlier setups; empty before the first.

    Not `known` where it cannot be read, and then nothing follows from what is missing.
    """

    known: bool = True
    ledger: Ownership = field(default_factory=Ownership)
    vectorizers: Mapping[str, VectorizerState] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None


async def examine(config: Config, *, offline: bool) -> list[Finding]:
    """Look at every precondition; `offline` leaves out the embedding service."""
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        source = await _open(stack, "source", connect_source(config, role="check"), findings)
        target = await _open(stack, "target", connect_target(config, role="check"), findings)
        findings += await survey(config, source, target, hosts=True)
    findings.append(await _embedder(config, offline=offline))
    return findings


async def _open(
    stack: AsyncExitStack, subject: str, opening: Awaitable[Connection], findings: list[Finding]
) -> Connection | None:
    try:
        return await stack.enter_async_context(await opening)
    except WalvecError as error:
        findings.append(Finding.of(subject, error))
        return None


async def survey(
    config: Config,
    source: Connection | None,
    target: Connection | None,
    *,
    replaces_slot: bool = False,
    hosts: bool = False,
) -> list[Finding]:
    """Look at everything that `check` reports, and `setup` and `resync` require, in both databases.

    A database that cannot be reached is None. `replaces_slot`: the slot that there is goes, so nothing rests
    on where it stands. `hosts`: the standbys in [source] dsn are inspected too.
    """
    findings = [] if config.vectorizers else [_nothing_to_do()]
    bindings: dict[str, Binding] = {}
    records, recorded = await _read_records(target, config) if target else (Records(known=False), [])
    findings += recorded
    if source:
        slot = await _slot(config, source, records, replaced=replaces_slot) if records.known else []
        spoken_for = {finding.subject for finding in slot}
        looking = _source(config, source, records, bindings, replaces_slot=replaces_slot)
        found = [finding async for finding in looking]
        findings += [finding for finding in found if finding.subject not in spoken_for] + slot
        findings += await failover_findings(config, source, hosts=hosts)
    if target:
        findings += [finding async for finding in _target(config, target, records, bindings)]
    return findings


async def require_to_run(config: Config, source: Connection, target: Connection) -> None:
    """Raise the first precondition of `run` that fails, in few round trips.

    What is to be said of each vectorizer is said where it is bound, by the same functions.
    """
    require([] if config.vectorizers else [_nothing_to_do()])
    require(await probe_server(source))
    failover_wanted(config.source.failover, source.info.server_version)
    server = await _row(target, "target_server")
    require([_server(server), _pgvector(await _row(target, "pgvector"), config)])


def _nothing_to_do() -> Finding:
    return Finding("settings", "failed", "there is no [[vectorizer]]", "walvec init SCHEMA.TABLE --output -")


# -- What earlier setups left -----------------------------------------------------------------------------


async def _read_records(target: Connection, config: Config) -> tuple[Records, list[Finding]]:
    """Read walvec's own tables, once it is certain that they are its own."""
    subject, unknown = "walvec's records", Records(known=False)
    try:
        if not await require_own_schema(target) or not await is_migrated(target):
            return Records(), []
        if await outdated(target):
            return unknown, [Finding(subject, "warning", "are of an older version", "walvec setup")]
        checkpoint = await load_checkpoint(target, config.source.slot)
        vectorizers = await load_vectorizers(target)
        return Records(ledger=await load_ledger(target), vectorizers=vectorizers, checkpoint=checkpoint), []
    except psycopg.errors.InsufficientPrivilege as error:
        role = str((await _row(target, "target_server"))["role"])
        remedy = _statement("grant_tables", schema=METADATA_SCHEMA, role=role)
        detail = error.diag.message_primary or "cannot be read"
        return unknown, [Finding(subject, "failed", detail, remedy)]
    except WalvecError as error:
        return unknown, [Finding.of(subject, error)]


async def _slot(config: Config, source: Connection, records: Records, *, replaced: bool) -> list[Finding]:
    """Say where the slot is not this walvec's, or does not fit its checkpoint: what `run` would say."""
    name, checkpoint = config.source.slot, records.checkpoint
    slots = await list_slots(source)
    slot = next((each for each in slots if each.name == name), None)
    subject = f'slot "{name}"'
    try:
        if checkpoint and not replaced:
            server = await look_at_server(source)
            fork = None
            if was_promoted(checkpoint, server):
                fork = await look_for_fork(config, checkpoint, server.timeline)
            require_continuity(config.source, source.info.dbname, slots, checkpoint, server, fork=fork)
        elif slot:
            require_own_slot(slot, records.ledger)
    except WalvecError as error:
        return [Finding.of(subject, error)]
    return [Finding(subject, "ok", "is replaced")] if replaced else []


# -- The source -------------------------------------------------------------------------------------------


async def _source(
    config: Config,
    connection: Connection,
    records: Records,
    bindings: dict[str, Binding],
    *,
    replaces_slot: bool,
) -> AsyncIterator[Finding]:
    """Look at the source; fills `bindings` with the vectorizers whose table and expressions will do."""
    source = config.source
    tables = list(dict.fromkeys(vectorizer.table for vectorizer in config.vectorizers))
    existing = await find_publication(connection, source.publication)
    maker = existing and records.ledger.maker("publication", source.publication, existing.oid)
    subject = f'publication "{source.publication}"'
    foreign = existing is not None and maker not in (None, source.slot)
    if foreign:
        yield Finding(
            subject,
            "failed",
            f'was made for slot "{maker}"',
            f"set [source] publication to a name of its own, {source.publication}_{source.slot} say",
        )
    findings = await probe(
        connection,
        slot=source.slot,
        plugin=source.plugin,
        publication=source.publication,
        tables=tables,
        own_publication=existing.oid if existing and maker == source.slot else None,
        replaces_slot=replaces_slot,
    )
    for finding in findings:
        if not (foreign and finding.subject == subject):
            yield finding
    for finding in await look_for_creators(connection, source.search_path):
        yield finding
    said = {finding.detail for finding in findings}
    for vectorizer in config.vectorizers:
        subject = f"vectorizer {vectorizer.name}"
        try:
            bindings[vectorizer.name] = binding = await bind_before_setup(
                connection, vectorizer, source.publication
            )
        except WalvecError as error:
            if error.what not in said:
                yield Finding.of(subject, error)
        else:
            key = ", ".join(binding.relation.key)
            yield Finding(subject, "ok", f"{vectorizer.table} by ({key}); its expressions are valid", None)
            for finding in await _doubts(connection, vectorizer):
                yield finding


async def _doubts(connection: Connection, vectorizer: Vectorizer) -> list[Finding]:
    """Warn of what the expressions may do and yet could surprise."""
    async with connection.transaction(force_rollback=True):
        await resolve_expressions(connection, local=True)
        found = await doubts(connection, vectorizer)
    return [Finding(f"expressions of {vectorizer.name}", "warning", each.what, each.hint) for each in found]


async def bind_before_setup(connection: Connection, vectorizer: Vectorizer, publication: str) -> Binding:
    """Bind a vectorizer, taking a table that setup has yet to publish as published whole.

    Raises PreconditionFailed, or ConfigInvalid where an expression is not valid or not a function of the row.
    """
    relation = await describe(connection, *vectorizer.table)
    try:
        listing = await published(connection, publication, relation)
    except PreconditionFailed:  # probe has said so
        listing = Published(None, None, _ALL_ACTIONS, relation.leaves)
    return await bind_to(connection, vectorizer, relation, listing)


# -- The target -------------------------------------------------------------------------------------------


async def _target(
    config: Config, connection: Connection, records: Records, bindings: Mapping[str, Binding]
) -> AsyncIterator[Finding]:
    """Look at the target database, and at the target tables of what could be bound."""
    server = await _row(connection, "target_server")
    yield _server(server)
    try:
        require_utf8(connection, "target")
    except PreconditionFailed as error:
        yield Finding.of("target encoding", error)
    extension = await _row(connection, "pgvector")
    yield _pgvector(extension, config)
    if extension["installed"] is not None:
        try:
            await require_vectors(connection)
        except PreconditionFailed as error:
            yield Finding.of("pgvector's schema", error)
    schemas = dict.fromkeys(vectorizer.target.schema for vectorizer in config.vectorizers)
    for schema in (METADATA_SCHEMA, *schemas):
        yield await _schema(connection, schema, server)
    for vectorizer in config.vectorizers:
        if finding := _belongs(config, vectorizer, records):
            yield finding
    for name, binding in bindings.items():
        table = TargetTable(binding.vectorizer, binding.key, config.embedder.dimensions)
        yield await _table(connection, table, f"target of {name}", server["role"], records.ledger)


def _belongs(config: Config, vectorizer: Vectorizer, records: Records) -> Finding | None:
    """Say whether vectorizer and target are this slot's, and its vectors of these settings."""
    subject, slot = f"vectors of {vectorizer.name}", config.source.slot
    state = records.vectorizers.get(vectorizer.name)
    configured = {each.name for each in config.vectorizers}
    try:
        require_free_target(records.vectorizers, vectorizer.name, slot, vectorizer.target, configured)
        if state is None:
            return None
        require_fingerprint(state, vectorizer.name, slot, fingerprint(vectorizer, config.embedder))
    except PreconditionFailed as error:
        return Finding.of(subject, error)
    return Finding(subject, "ok", "made under these settings", None)


def _server(server: DictRow) -> Finding:
    subject = "target database"
    if server["in_recovery"]:
        return Finding(subject, "failed", "is a standby: nothing can be written", "[target] dsn: the primary")
    if not server["may_create_temporary"]:
        remedy = _statement("grant_database", database=server["database"], role=server["role"])
        return Finding(subject, "failed", "no right to temporary tables, which vectors pass through", remedy)
    return Finding(subject, "ok", f"PostgreSQL {server['version']}, database {server['database']}", None)


def _pgvector(extension: DictRow, config: Config) -> Finding:
    """Say whether pgvector is there, and new enough for the configured vectors."""
    subject, create = "pgvector", load_sql("target.sql")["create_extension"]
    installed = extension["installed"]
    if installed is None:
        if extension["available"] is None:
            return Finding(subject, "failed", "is not on the server", "install the package pgvector there")
        if extension["role_may_create"]:
            return Finding(subject, "warning", "is not installed yet: walvec setup does it", create)
        return Finding(subject, "failed", "is not installed", f"as a superuser: {create}")
    version = tuple(int(part) for part in installed.split(".")[:2])
    if config.embedder.dimensions > MAX_VECTOR_DIMENSIONS:
        needed, reason = _FIRST_WITH_HALFVEC, f"{config.embedder.dimensions} dimensions"
    elif any(vectorizer.index == "hnsw" for vectorizer in config.vectorizers):
        needed, reason = _FIRST_WITH_HNSW, "an hnsw index"
    else:
        return Finding(subject, "ok", installed, None)
    if version < needed:
        wanted = ".".join(map(str, needed))
        return Finding(
            subject, "failed", f"{installed}; {reason} needs {wanted}", _QUERIES["update_extension"]
        )
    return Finding(subject, "ok", installed, None)


async def _schema(connection: Connection, schema: str, server: DictRow) -> Finding:
    """Say whether tables can be made in a schema; walvec's own is created by setup."""
    subject = f"target schema {schema}"
    rights = await _row(connection, "target_schema", schema=schema)
    if rights:
        if rights["may_use"] and rights["may_create"]:
            return Finding(subject, "ok", "tables can be made there", None)
        remedy = _statement("grant_schema", schema=schema, role=server["role"])
        return Finding(subject, "failed", "no right to make tables there", remedy)
    if schema != METADATA_SCHEMA:
        return Finding(subject, "failed", "does not exist", _statement("create_schema", schema=schema))
    if not server["may_create"]:
        remedy = _statement("grant_database", database=server["database"], role=server["role"])
        return Finding(subject, "failed", "does not exist, and no right to create it", remedy)
    return Finding(subject, "ok", "walvec setup creates it", None)


async def _table(
    connection: Connection, table: TargetTable, subject: str, role: str, ledger: Ownership
) -> Finding:
    """Say whether a target table is walvec's to write and has the shape it needs, or can be made."""
    try:
        if not await require_own_table(connection, ledger, table.name):
            return await _new_table(connection, table, subject)
        await table.require(connection)
    except PreconditionFailed as error:
        return Finding.of(subject, error)
    rights = await _row(connection, "target_table", **table.name._asdict())
    if not rights["may_write"]:
        remedy = _statement("grant_table", table=table.name, role=role)
        return Finding(subject, "failed", f"{table.name}: no right to write it", remedy)
    if not rights["owned"]:
        remedy = _statement("change_owner", table=table.name, role=role)
        return Finding(subject, "warning", f"{table.name}: only its owner can build the index", remedy)
    return Finding(subject, "ok", f"{table.name} has the shape it needs", None)


async def _new_table(connection: Connection, table: TargetTable, subject: str) -> Finding:
    if unknown := await _unknown_types(connection, table):
        detail = f"the type {unknown} is not in the target database"
        return Finding(subject, "failed", detail, "create it there as it is in the source")
    return Finding(subject, "ok", f"{table.name}: walvec setup creates it", None)


async def _unknown_types(connection: Connection, table: TargetTable) -> str:
    """List the key's types that the target database lacks, as it may when it is another database."""
    types = [column.type_name for column in table.key]
    cursor = await connection.execute(_QUERIES["unknown_types"], {"types": types})
    return ", ".join(name for (name,) in await cursor.fetchall())


async def _row(connection: Connection, query: str, /, **parameters: str) -> DictRow:
    """Run one of this module's questions; {} where it has no answer."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_QUERIES[query], parameters)
        return await cursor.fetchone() or {}


def _statement(query: str, /, **names: str | TableName) -> str:
    """Write out a remedy as an operator would type it."""
    identifiers = {
        part: sql.Identifier(*words) if isinstance(words, TableName) else sql.Identifier(words)
        for part, words in names.items()
    }
    return sql.SQL(_QUERIES[query]).format(**identifiers).as_string()


# -- The embedder -----------------------------------------------------------------------------------------


async def _embedder(config: Config, *, offline: bool) -> Finding:
    """Open the embedder and, unless `offline`, have it embed one short text."""
    settings = config.embedder
    try:
        embedder = open_embedder(settings)
        try:
            if not offline:
                await ask(embedder, [_TEST_TEXT])
        finally:
            await embedder.aclose()
    except WalvecError as error:
        return Finding.of("embedder", error)
    said = "is configured, not asked" if offline else f"answers with {settings.dimensions} dimensions"
    model = "" if settings.model == settings.provider else f" {settings.model}"
    return Finding("embedder", "ok", f"{settings.provider}{model} {said}", None)
