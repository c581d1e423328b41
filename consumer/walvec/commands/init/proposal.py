"""What `walvec init` proposes: tables with text and a key, and their columns.

It only reads. Column names decide where they say what a row is about, lengths where they do not.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql
from pydantic import SecretStr, ValidationError

from walvec.commands.output import say
from walvec.config.load import Config, SourceSettings, TableName, TargetSettings
from walvec.config.problems import words_for
from walvec.database.connect import connect_source
from walvec.errors import ConfigInvalid, UsageInvalid
from walvec_slots.errors import PreconditionFailed, WalvecError
from walvec_slots.queries import load_sql
from walvec_slots.relation import describe
from walvec_slots.settle import Connection

# Bytes on average, from which a text is worth embedding whatever its column is called.
LONG_TEXT = 100
# Milliseconds for measuring the texts of one table.
MEASURE_LIMIT = 5_000
MAX_PROPOSALS = 20  # tables

# Column names that say what a row is about.
_TELLING = re.compile(
    r"title|headline|subject|name|summary|abstract|description|caption|text|body|contents?|message|comment|notes?",
    re.IGNORECASE,
)

DSN_VARIABLE = "WALVEC_SOURCE__DSN"

# Any of these says which server to connect to.
_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")

_QUERIES = load_sql("init.sql")
_LIMIT_STATEMENTS = load_sql("slots.sql")["limit_statements"]


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A text column; `sql` is its quoted name, `length` its average in bytes."""

    name: str
    sql: str
    not_null: bool
    length: int | None = None

    @property
    def is_telling(self) -> bool:
        """Whether its name or its length suggests that it describes the row."""
        return bool(_TELLING.fullmatch(self.name)) or (self.length or 0) >= LONG_TEXT


@dataclass(frozen=True, slots=True)
class Proposal:
    """A table, its columns to embed, and all of its text columns.

    Both are empty if the table could not be inspected.
    """

    table: TableName
    columns: tuple[TextColumn, ...] = ()
    all_columns: tuple[TextColumn, ...] = ()

    @property
    def length(self) -> int:
        """The average bytes of a row's text."""
        return sum(column.length or 0 for column in self.columns)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found: proposals, and why other tables were left out.

    `schemas` are those in which the database looks up names, besides PostgreSQL's own.
    """

    proposals: tuple[Proposal, ...] = ()
    left_out: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()


async def propose(tables: Sequence[TableName], dsn: str | None) -> Survey:
    """Propose columns of these tables or, without any, tables.

    Without a database to read, nothing is proposed. Raises UsageInvalid if the DSN is malformed,
    PreconditionFailed if a table cannot be followed, ConnectionLost if the given DSN does not answer.
    """
    given = dsn if dsn is not None else os.environ.get(DSN_VARIABLE, "")
    if not tables and not given and not any(name in os.environ for name in _VARIABLES):
        return Survey()
    origin = DSN_VARIABLE if dsn is None else "--dsn"
    try:
        connection = await connect_source(_source_alone(given, origin), role="init")
    except ConfigInvalid as error:
        raise UsageInvalid(error.what, hint=f"check {origin}" if given else error.hint) from None
    except WalvecError as error:
        if given:
            raise
        say(f"Could not inspect the tables: {error.what}", err=True)
        return Survey(tuple(Proposal(table) for table in tables))
    async with connection:
        if tables:
            found = Survey(tuple([await _propose(connection, table) for table in tables]))
        else:
            found = await _find(connection)
        cursor = await connection.execute(_QUERIES["search_path"])
        return replace(found, schemas=tuple(schema for (schema,) in await cursor.fetchall()))


def _source_alone(dsn: str, origin: str) -> Config:
    """Return the part of the settings that connecting needs; there is no file yet.

    Raises UsageInvalid, without the value, if the DSN that comes from `origin` is malformed.
    """
    try:
        return Config.model_construct(source=SourceSettings(dsn=SecretStr(dsn)), target=TargetSettings())
    except ValidationError as error:
        (problem, *_) = error.errors(include_url=False, include_input=False)
        what, hint = words_for(problem, SourceSettings, ("dsn",))
        raise UsageInvalid(f"{origin} {what}", hint=hint) from None


async def _find(connection: Connection) -> Survey:
    """Propose every table with a key and a telling column, longest texts first."""
    proposals, left_out = [], []
    cursor = await connection.execute(_QUERIES["tables_with_text"])
    for table in [TableName(*row) for row in await cursor.fetchall()]:
        try:
            proposal = await _propose(connection, table)
        except PreconditionFailed as error:
            left_out.append(f"{table}: {error}")
            continue
        if any(column.is_telling for column in proposal.columns):
            proposals.append(proposal)
        else:
            left_out.append(f"{table}: its texts are short ({lengths_of(proposal.all_columns)})")
    proposals.sort(key=lambda proposal: -proposal.length)
    left_out += [
        f"{proposal.table}: {lengths_of(proposal.columns)}" for proposal in proposals[MAX_PROPOSALS:]
    ]
    return Survey(tuple(proposals[:MAX_PROPOSALS]), tuple(left_out))


async def _propose(connection: Connection, table: TableName) -> Proposal:
    """Choose the columns that describe a row; if none does, all of them.

    Raises PreconditionFailed if the table cannot be followed, for example because it has no key.
    """
    await describe(connection, *table)
    cursor = await connection.execute(_QUERIES["text_columns"], table._asdict())
    rows = await cursor.fetchall()
    every = [
        TextColumn(name, sql, not_null)
        for name, sql, not_null, is_text, in_key in rows
        if is_text and not in_key
    ]
    lengths = await _lengths(connection, table, every)
    every = [replace(column, length=lengths.get(column.name)) for column in every]
    telling = tuple(column for column in every if column.is_telling)
    return Proposal(table, telling or tuple(every), tuple(every))


async def _lengths(
    connection: Connection, table: TableName, columns: Sequence[TextColumn]
) -> Mapping[str, int | None]:
    """Measure a few rows. The result is empty without the right or the time to."""
    if not columns:
        return {}
    measures = [
        sql.SQL(_QUERIES["average_length"]).format(column=sql.Identifier(column.name)) for column in columns
    ]
    query = sql.SQL(_QUERIES["average_lengths"]).format(
        lengths=sql.SQL(", ").join(measures), table=sql.Identifier(*table)
    )
    try:
        async with connection.transaction():
            await connection.execute(_LIMIT_STATEMENTS, {"milliseconds": MEASURE_LIMIT})
            cursor = await connection.execute(query)
            (found,) = await cursor.fetchall()
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.LockNotAvailable,
        psycopg.errors.QueryCanceled,
    ):
        return {}
    return dict(zip([column.name for column in columns], found, strict=True))


def lengths_of(columns: Sequence[TextColumn]) -> str:
    """Return how long the texts are: `title 20, contents 834 bytes on average`."""
    known = [f"{column.name} {column.length:,}" for column in columns if column.length is not None]
    return f"{', '.join(known)} bytes on average" if known else "no rows yet"
