"""Everything that must be so before `walvec run` can work, looked at one by one; changes nothing.

The source's own conditions (WAL level, slot, plugin, publication, replica identities) are slots.probe's.
Here are the expressions, the target database and its tables, and the embedder. What `walvec setup` will
create is no failure; what stops setup or run is one, and comes with the statement that mends it.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from consumer.admission import require_fingerprint
from consumer.bind import Binding, bind_to
from consumer.config import Config, TableName, Vectorizer, fingerprint
from consumer.creators import look_for_creators
from consumer.database import Connection, connect_source, connect_target
from consumer.embed import open_embedder
from consumer.embed.dispatch import ask
from consumer.embed.vectors import MAX_VECTOR_DIMENSIONS
from consumer.metadata import load_vectorizers
from consumer.pgvector import require_vectors
from consumer.target import TargetTable
from slots.errors import PreconditionFailed, WalvecError
from slots.probe import Finding, probe
from slots.publication import Action, Published, published
from slots.queries import load
from slots.relation import describe
from slots.settle import require_utf8

_QUERIES = load("check.sql")

_FIRST_WITH_HNSW = (0, 5)
_FIRST_WITH_HALFVEC = (0, 7)

METADATA_SCHEMA = "walvec"

_ALL_ACTIONS: Final[frozenset[Action]] = frozenset({"insert", "update", "delete", "truncate"})
_TEST_TEXT = "walvec asks whether the embedder answers."


async def examine(config: Config, *, offline: bool) -> list[Finding]:
    """Look at every precondition; `offline` leaves out the embedding service."""
    findings = [] if config.vectorizers else [_nothing_to_do()]
    bindings: dict[str, Binding] = {}
    findings += [finding async for finding in _source(config, bindings)]
    findings += [finding async for finding in _target(config, bindings)]
    findings.append(await _embedder(config, offline=offline))
    return findings


def _nothing_to_do() -> Finding:
    return Finding("settings", "failed", "there is no [[vectorizer]]", "walvec init SCHEMA.TABLE --output -")


def _failed(subject: str, error: WalvecError) -> Finding:
    return Finding(subject, "failed", error.what, error.hint)


# -- The source -------------------------------------------------------------------------------------------


async def _source(config: Config, bindings: dict[str, Binding]) -> AsyncIterator[Finding]:
    """Look at the source; fills `bindings` with the vectorizers whose table and expressions will do."""
    try:
        connection = await connect_source(config, role="check")
    except WalvecError as error:
        yield _failed("source", error)
        return
    async with connection:
        source = config.source
        tables = list(dict.fromkeys(vectorizer.table for vectorizer in config.vectorizers))
        findings = await probe(
            connection, slot=source.slot, plugin=source.plugin, publication=source.publication, tables=tables
        )
        for finding in findings:
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
                    yield _failed(subject, error)
            else:
                key = ", ".join(binding.relation.key)
                yield Finding(
                    subject, "ok", f"{vectorizer.table} by ({key}); its expressions are valid", None
                )


async def bind_before_setup(connection: Connection, vectorizer: Vectorizer, publication: str) -> Binding:
    """Bind a vectorizer, taking a table that setup has yet to publish as published whole.

    Raises PreconditionFailed, or ConfigInvalid where an expression does not parse.
    """
    relation = await describe(connection, *vectorizer.table)
    try:
        listing = await published(connection, publication, relation)
    except PreconditionFailed:  # probe has said so
        listing = Published(None, None, _ALL_ACTIONS, relation.leaves)
    return await bind_to(connection, vectorizer, relation, listing)


# -- The target -------------------------------------------------------------------------------------------


async def _target(config: Config, bindings: Mapping[str, Binding]) -> AsyncIterator[Finding]:
    """Look at the target database, and at the target tables of what could be bound."""
    try:
        connection = await connect_target(config, role="check")
    except WalvecError as error:
        yield _failed("target", error)
        return
    async with connection:
        server = await _row(connection, "target_server")
        yield _server(server)
        try:
            require_utf8(connection, "target")
        except PreconditionFailed as error:
            yield _failed("target encoding", error)
        extension = await _row(connection, "pgvector")
        yield _pgvector(extension, config)
        if extension["installed"] is not None:
            try:
                await require_vectors(connection)
            except PreconditionFailed as error:
                yield _failed("pgvector's schema", error)
        schemas = dict.fromkeys(vectorizer.target.schema for vectorizer in config.vectorizers)
        for schema in (METADATA_SCHEMA, *schemas):
            yield await _schema(connection, schema, server)
        for name, binding in bindings.items():
            table = TargetTable(binding.vectorizer, binding.key, config.embedder.dimensions)
            yield await _table(connection, table, f"target of {name}", server["role"])
        async for finding in _records(connection, config, server["role"]):
            yield finding


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
    subject, create = "pgvector", load("target.sql")["create_extension"]
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


async def _table(connection: Connection, table: TargetTable, subject: str, role: str) -> Finding:
    """Say whether a target table has the shape and the rights that are needed, or can be made."""
    found = await _row(connection, "target_table", **table.name._asdict())
    if not found:
        unknown = await _unknown_types(connection, table)
        if unknown:
            return Finding(subject, "failed", f"the type {unknown} is not in the target database", None)
        return Finding(subject, "ok", f"{table.name}: walvec setup creates it", None)
    if not found["may_write"]:
        remedy = _statement("grant_table", table=table.name, role=role)
        return Finding(subject, "failed", f"{table.name}: no right to write it", remedy)
    try:
        await table.require(connection)
    except PreconditionFailed as error:
        return _failed(subject, error)
    if not found["owned"]:
        remedy = _statement("change_owner", table=table.name, role=role)
        return Finding(subject, "warning", f"{table.name}: only its owner can build the index", remedy)
    return Finding(subject, "ok", f"{table.name} has the shape it needs", None)


async def _records(connection: Connection, config: Config, role: str) -> AsyncIterator[Finding]:
    """Say which vectors were made under other settings, as far as setup has been run."""
    try:
        cursor = await connection.execute(load("metadata.sql")["migration_table_exists"])
        known = await load_vectorizers(connection) if await cursor.fetchone() == (True,) else {}
    except psycopg.errors.InsufficientPrivilege as error:
        remedy = _statement("grant_tables", schema=METADATA_SCHEMA, role=role)
        yield Finding("walvec's records", "failed", error.diag.message_primary or "cannot be read", remedy)
        return
    for vectorizer in config.vectorizers:
        if (state := known.get(vectorizer.name)) is None:
            continue
        subject = f"vectors of {vectorizer.name}"
        wanted = fingerprint(vectorizer, config.embedder)
        try:
            require_fingerprint(state, vectorizer.name, config.source.slot, wanted)
        except PreconditionFailed as error:
            yield _failed(subject, error)
        else:
            yield Finding(subject, "ok", "made under these settings", None)


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
        return _failed("embedder", error)
    said = "is configured, not asked" if offline else f"answers with {settings.dimensions} dimensions"
    model = "" if settings.model == settings.provider else f" {settings.model}"
    return Finding("embedder", "ok", f"{settings.provider}{model} {said}", None)
