"""Preconditions on the target: the database, pgvector, schemas and target tables."""

from collections.abc import AsyncIterator, Mapping

from psycopg.rows import DictRow

from walvec.config.load import Config, Vectorizer
from walvec.database.ownership import Ownership, require_free_target, require_own_table
from walvec.database.pgvector import CREATE_EXTENSION, require_vectors
from walvec.embed.vectors import MAX_VECTOR_DIMENSIONS
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.fingerprint import fingerprint_of, require_fingerprint
from walvec.vectorizer.preconditions.questions import (
    CATALOG_QUESTIONS,
    METADATA_SCHEMA,
    ask_catalog,
    write_remedy,
)
from walvec.vectorizer.preconditions.records import Records
from walvec.vectorizer.target import TargetTable
from walvec_slots.errors import PreconditionFailed
from walvec_slots.probe import Finding
from walvec_slots.settle import Connection, require_utf8

_FIRST_WITH_HNSW = (0, 5)
_FIRST_WITH_HALFVEC = (0, 7)


async def target_findings(
    config: Config, connection: Connection, records: Records, bindings: Mapping[str, Binding]
) -> AsyncIterator[Finding]:
    """Check the target database, and the target of each vectorizer that was bound."""
    server = await ask_catalog(connection, "target_server")
    yield server_finding(server)
    try:
        require_utf8(connection, "target")
    except PreconditionFailed as error:
        yield Finding.of("target encoding", error)
    extension = await ask_catalog(connection, "pgvector")
    yield pgvector_finding(extension, config)
    if extension["installed"] is not None:
        try:
            await require_vectors(connection)
        except PreconditionFailed as error:
            yield Finding.of("pgvector's schema", error)
    schemas = dict.fromkeys(vectorizer.target.schema for vectorizer in config.vectorizers)
    for schema in (METADATA_SCHEMA, *schemas):
        yield await _schema_finding(connection, schema, server)
    for vectorizer in config.vectorizers:
        if finding := _vectors_finding(config, vectorizer, records):
            yield finding
    for name, binding in bindings.items():
        table = TargetTable(binding.vectorizer, binding.key, config.embedder.dimensions)
        yield await _table_finding(connection, table, f"target of {name}", server["role"], records.ledger)


def server_finding(server: DictRow) -> Finding:
    """Say whether the target can be written."""
    subject = "target database"
    if server["in_recovery"]:
        detail = "is a standby, which cannot be written"
        return Finding(subject, "failed", detail, "let [target] dsn lead to the primary")
    if not server["may_create_temporary"]:
        remedy = write_remedy("grant_database", database=server["database"], role=server["role"])
        detail = "no right to create temporary tables, which vectors pass through"
        return Finding(subject, "failed", detail, remedy)
    return Finding(subject, "ok", f"PostgreSQL {server['version']}, database {server['database']}", None)


def pgvector_finding(extension: DictRow, config: Config) -> Finding:
    """Say whether pgvector is installed, and new enough for the configured vectors."""
    subject = "pgvector"
    installed = extension["installed"]
    if installed is None:
        if extension["available"] is None:
            detail = "is not available on the server"
            return Finding(subject, "failed", detail, "install the package pgvector on the target's server")
        if extension["role_may_create"]:
            detail = "is not installed yet; walvec setup installs it"
            return Finding(subject, "warning", detail, CREATE_EXTENSION)
        return Finding(subject, "failed", "is not installed", f"as a superuser: {CREATE_EXTENSION}")
    version = tuple(int(part) for part in installed.split(".")[:2])
    if config.embedder.dimensions > MAX_VECTOR_DIMENSIONS:
        needed, reason = _FIRST_WITH_HALFVEC, f"{config.embedder.dimensions} dimensions"
    elif any(vectorizer.index == "hnsw" for vectorizer in config.vectorizers):
        needed, reason = _FIRST_WITH_HNSW, "an hnsw index"
    else:
        return Finding(subject, "ok", installed, None)
    if version < needed:
        detail = f"{installed}; {reason} needs {'.'.join(map(str, needed))}"
        return Finding(subject, "failed", detail, CATALOG_QUESTIONS["update_extension"])
    return Finding(subject, "ok", installed, None)


async def _schema_finding(connection: Connection, schema: str, server: DictRow) -> Finding:
    """Say whether tables can be created in a schema; setup creates walvec's own."""
    subject = f"target schema {schema}"
    rights = await ask_catalog(connection, "target_schema", schema=schema)
    if rights:
        if rights["may_use"] and rights["may_create"]:
            return Finding(subject, "ok", "tables can be created there", None)
        remedy = write_remedy("grant_schema", schema=schema, role=server["role"])
        return Finding(subject, "failed", "no right to create tables there", remedy)
    if schema != METADATA_SCHEMA:
        return Finding(subject, "failed", "does not exist", write_remedy("create_schema", schema=schema))
    if not server["may_create"]:
        remedy = write_remedy("grant_database", database=server["database"], role=server["role"])
        return Finding(subject, "failed", "does not exist, and there is no right to create it", remedy)
    return Finding(subject, "ok", "walvec setup creates it", None)


def _vectors_finding(config: Config, vectorizer: Vectorizer, records: Records) -> Finding | None:
    """Say whether the vectorizer is this slot's, and its vectors of these settings."""
    subject, slot = f"vectors of {vectorizer.name}", config.source.slot
    state = records.vectorizers.get(vectorizer.name)
    configured = {configured.name for configured in config.vectorizers}
    try:
        require_free_target(records.vectorizers, vectorizer.name, slot, vectorizer.target, configured)
        if state is None:
            return None
        require_fingerprint(state, vectorizer.name, slot, fingerprint_of(vectorizer, config.embedder))
    except PreconditionFailed as error:
        return Finding.of(subject, error)
    return Finding(subject, "ok", "made under these settings", None)


async def _table_finding(
    connection: Connection, table: TargetTable, subject: str, role: str, ledger: Ownership
) -> Finding:
    """Say whether a target is walvec's to write and has its shape, or can be made."""
    try:
        if not await require_own_table(connection, ledger, table.name):
            return await _new_table_finding(connection, table, subject)
        await table.require_shape(connection)
    except PreconditionFailed as error:
        return Finding.of(subject, error)
    rights = await ask_catalog(connection, "target_table", **table.name._asdict())
    if not rights["may_write"]:
        remedy = write_remedy("grant_table", table=table.name, role=role)
        return Finding(subject, "failed", f"{table.name}: no right to write it", remedy)
    if not rights["owned"]:
        remedy = write_remedy("change_owner", table=table.name, role=role)
        return Finding(subject, "warning", f"{table.name}: only its owner can build the index", remedy)
    return Finding(subject, "ok", f"{table.name} has the right shape", None)


async def _new_table_finding(connection: Connection, table: TargetTable, subject: str) -> Finding:
    """Say whether setup can create a target table."""
    if unknown := await _unknown_types(connection, table):
        detail = f"{table.name}: the target database lacks the type {unknown}"
        return Finding(subject, "failed", detail, "create it there as it is in the source")
    return Finding(subject, "ok", f"{table.name}: walvec setup creates it", None)


async def _unknown_types(connection: Connection, table: TargetTable) -> str:
    """List the key's types that the target lacks, as another database may."""
    types = [column.type_name for column in table.key]
    cursor = await connection.execute(CATALOG_QUESTIONS["unknown_types"], {"types": types})
    return ", ".join(name for (name,) in await cursor.fetchall())
