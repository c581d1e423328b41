"""Names and values from the database are names and values, whatever they look like."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from walvec.commands import setup, teardown
from walvec.config.load import Config, TableName
from walvec.supervise import supervise

SYSTEM_COLUMNS = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}
TARGET_COLUMNS = {"chunk_seq", "chunk", "embedding", "input_hash", "embedded_at"}
MAX_BYTES = 63

# What ends a string, an identifier, a comment or a placeholder, and what would follow.
_fragments = st.sampled_from(
    [
        '"',
        "'",
        "\\",
        ";",
        "--",
        "/*",
        "*/",
        "$$",
        "$1",
        "%s",
        "%(k0)s",
        "%%",
        "{",
        "}",
        "{key}",
        ")",
        ",",
        ".",
        "::text",
        ";DROP TABLE victim;--",
        '";DROP TABLE victim;--',
        "';DROP TABLE victim;--",
        ");DROP TABLE victim;--",
        "\n",
        "\t",
        " ",
    ]
) | st.characters(codec="utf-8", exclude_characters="\0")

names = (
    st.lists(_fragments, min_size=1, max_size=12)
    .map("".join)
    .map(lambda text: text.encode()[:MAX_BYTES].decode(errors="ignore"))
    .filter(lambda name: name not in SYSTEM_COLUMNS | TARGET_COLUMNS and not name.startswith("pg_"))
    .filter(bool)
)


@dataclass(frozen=True)
class Names:
    """One name for each kind of thing that walvec names in SQL. The last ones are values."""

    schema: str
    table: str
    key: str
    column: str
    type: str
    target: str
    publication: str
    label: str
    other_label: str
    value: str

    @classmethod
    def strategy(cls) -> st.SearchStrategy[Self]:
        """Any names, each another one."""
        return (
            st.lists(names, min_size=10, max_size=10, unique=True)
            .map(lambda each: cls(*each))
            .filter(lambda given_names: given_names.publication.strip())
        )


class Place:
    """A database with a table that nobody may touch."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.slot = f"injection_{os.getpid()}"
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.run("CREATE TABLE public.victim (id int)")

    def run(self, statement: str, *values: str, **parts: sql.Composable) -> list[tuple[Any, ...]]:
        """Run a statement, with values inline: psycopg would look for placeholders in the names too."""
        literals = {f"value{number}": sql.Literal(value) for number, value in enumerate(values)}
        cursor = self.connection.execute(sql.SQL(statement).format(**parts, **literals))
        return cursor.fetchall() if cursor.description else []

    def config(self, given_names: Names) -> Config:
        """Follow the table, embedding one column."""
        document: dict[str, Any] = {
            "source": {"dsn": self.dsn, "slot": self.slot, "publication": given_names.publication},
            "embedder": {"provider": "hashing", "dimensions": 4},
            "vectorizer": [
                {
                    "name": "v",
                    "table": str(TableName(given_names.schema, given_names.table)),
                    "text": sql.Identifier(given_names.column).as_string(),
                    "target": str(TableName("public", given_names.target)),
                    "chunk": "none",
                }
            ],
        }
        return Config(**document)


@pytest.fixture
def place(database: str) -> Iterator[Place]:
    """One place for all examples."""
    own = Place(database)
    yield own
    own.connection.close()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_names=Names.strategy())
def test_names_cannot_inject(place: Place, given_names: Names) -> None:
    """From setup through backfill and stream to the index, all stays within its names."""
    n = given_names
    identifiers = {
        "schema": sql.Identifier(n.schema),
        "table": sql.Identifier(n.schema, n.table),
        "key": sql.Identifier(n.key),
        "column": sql.Identifier(n.column),
        "type": sql.Identifier(n.schema, n.type),
        "target": sql.Identifier("public", n.target),
        "labels": sql.SQL(", ").join(map(sql.Literal, (n.label, n.other_label))),
    }
    config = place.config(n)
    place.run("CREATE SCHEMA {schema}", **identifiers)
    try:
        place.run("CREATE TYPE {type} AS ENUM ({labels})", **identifiers)
        place.run("CREATE TABLE {table} ({key} {type} PRIMARY KEY, {column} text)", **identifiers)
        place.run("INSERT INTO {table} VALUES ({value0}, {value1})", n.label, n.value, **identifiers)
        follow(config)
        place.run("INSERT INTO {table} VALUES ({value0}, {value1})", n.other_label, n.value, **identifiers)
        place.run(
            "UPDATE {table} SET {column} = {value0} WHERE {key} = {value1}", n.key, n.label, **identifiers
        )
        asyncio.run(supervise(config, once=True, wait=True, give_up_after=0))
        expected = {n.label: n.key, n.other_label: n.value}
        found = dict(place.run("SELECT {key}::text, chunk FROM {target}", **identifiers))
        assert found == {key: text for key, text in expected.items() if text.strip()}
        place.run("DELETE FROM {table} WHERE {key} = {value0}", n.label, **identifiers)
        asyncio.run(supervise(config, once=True, wait=True, give_up_after=0))
        assert place.run("SELECT {key}::text FROM {target}", **identifiers) == [
            (key,) for key in (n.other_label,) if expected[key].strip()
        ]
    finally:
        asyncio.run(teardown.teardown(config, tables=True, sure=True))
        place.run("DROP SCHEMA {schema} CASCADE", **identifiers)
    assert place.run("SELECT count(*) FROM public.victim") == [(0,)]


def follow(config: Config) -> None:
    """`walvec setup` and `walvec run --once`."""
    asyncio.run(setup.setup(config, time_limit=30))
    asyncio.run(supervise(config, once=True, wait=True, give_up_after=0))
