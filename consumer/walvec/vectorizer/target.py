"""A vectorizer's target table: its shape, and what reads and writes it.

Key columns keep the source's names, order and types; everything else is the same for every vectorizer. Every
method takes the session to work in: the writer's for what belongs to its transaction, another for look-ups.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.abc import Buffer

from walvec.config.load import Vectorizer
from walvec.config.table_name import TableName
from walvec.database.keys import (
    Key,
    array_parameters,
    cast_keys,
    identifier,
    key_arrays,
    key_equals,
    key_follows,
    key_names,
    key_order,
    key_parameters,
    literal_sql,
    read_keys,
)
from walvec.database.pgvector import vector_schema
from walvec.embed.protocol import Vector
from walvec.embed.vectors import MAX_VECTOR_DIMENSIONS
from walvec_slots.errors import PreconditionFailed
from walvec_slots.queries import load_sql
from walvec_slots.relation import Column, describe
from walvec_slots.settle import Connection

_QUERIES = load_sql("target.sql")

_BLOCK_BYTES = 1 << 18

# Of each metric: the operator, and the name of its operator class behind the type's.
_OPERATORS = {"cosine": ("<=>", "cosine_ops"), "l2": ("<->", "l2_ops"), "ip": ("<#>", "ip_ops")}


class Chunk(NamedTuple):
    """One piece of a row's text, as it is embedded.

    `input_hash` covers model, dimensions and text.
    """

    text: str
    input_hash: bytes


class TargetTable:
    """One vectorizer's target table."""

    def __init__(self, vectorizer: Vectorizer, key: Sequence[Column], dimensions: int) -> None:
        """Describe a vectorizer's table, for its rows' key and the model's dimensions."""
        self.name: TableName = vectorizer.target
        self.key = key
        self._kind = "vector" if dimensions <= MAX_VECTOR_DIMENSIONS else "halfvec"
        self.vector_type = f"{self._kind}({dimensions})"
        self.operator, operators = _OPERATORS[vectorizer.metric]
        self.operator_class = f"{self._kind}_{operators}"
        digest = hashlib.blake2b(vectorizer.name.encode(), digest_size=8).hexdigest()
        self._staging = sql.Identifier("pg_temp", f"walvec_staging_{digest}")
        self._composed: dict[tuple[str, str], bytes] = {}

    def compose(self, name: str, connection: Connection) -> bytes:
        """Return one of the named statements over the target.

        It is to be executed with parameters. Raises PreconditionFailed where the database lacks pgvector.
        """
        schema = vector_schema(connection)
        if (schema, name) not in self._composed:
            self._composed[schema, name] = self._compose(name, schema).as_bytes()
        return self._composed[schema, name]

    def _compose(self, name: str, schema: str, foreign: frozenset[str] = frozenset()) -> sql.Composed:
        return sql.SQL(_QUERIES[name]).format(
            target=identifier(*self.name),
            operator_class=literal_sql(f"{schema}.{self.operator_class}"),
            operator=literal_sql(f"OPERATOR({schema}.{self.operator})"),
            vector=literal_sql(f"{schema}.{self.vector_type}"),
            pgvector=literal_sql(schema),
            staging=self._staging,
            staged_columns=self._columns((f"k{i}", "text") for i in range(len(self.key))),
            key_columns=self._columns(
                (column.name, column.base_type_name if column.type_name in foreign else column.type_name)
                for column in self.key
            ),
            key=_comma(identifier(column.name) for column in self.key),
            cast_key=cast_keys(self.key, "s"),
            held_key=key_equals(self.key, "o", "s"),
            gone_key=key_equals(self.key, "t", "gone"),
            wanted_key=key_equals(self.key, "t", "wanted"),
            follows=key_follows(self.key, "t"),
            key_order=key_order(self.key, "t"),
            arrays=key_arrays(self.key),
            gone_arrays=key_arrays(self.key, "g"),
            names=key_names(self.key),
        )

    @staticmethod
    def _columns(pairs: Iterable[tuple[str, str]]) -> sql.Composed:
        return _comma(
            sql.SQL("{} {} NOT NULL").format(identifier(name), literal_sql(kind)) for name, kind in pairs
        )

    # -- Reading

    async def held_hashes(
        self, connection: Connection, keys: Sequence[Key], gone: Sequence[Key] = ()
    ) -> dict[Key, dict[int, bytes]]:
        """Return the input hashes that the target holds of each key, by `chunk_seq`.

        Keys without chunks are absent. A key equal to one in `gone` is about to be deleted, and counts as
        absent too: 1.0 goes when 1.00 comes.
        """
        found: dict[Key, dict[int, bytes]] = {}
        if keys:
            cursor = connection.cursor(binary=True)
            parameters = array_parameters(keys, self.key) | array_parameters(gone, self.key, "g")
            await cursor.execute(self.compose("existing_chunks", connection), parameters)
            for position, chunk_seq, input_hash in await cursor.fetchall():
                found.setdefault(keys[position - 1], {})[chunk_seq] = input_hash
        return found

    async def is_empty(self, connection: Connection) -> bool:
        """Whether no row has an embedding."""
        cursor = await connection.execute(self.compose("target_is_empty", connection), {})
        return await cursor.fetchone() == (True,)

    async def keys_after(self, connection: Connection, key: Key | None, *, rows: int) -> list[Key]:
        """Return the keys that follow `key`, in the target's order."""
        name = "target_keys_from_start" if key is None else "target_keys_after"
        cursor = await connection.execute(
            self.compose(name, connection), {**key_parameters(key or ()), "limit": rows}
        )
        return read_keys(cursor)

    async def read_columns(self, connection: Connection) -> list[tuple[str, str]]:
        """Return the table's columns and types as they are; none where there is no table."""
        name = sql.Identifier(*self.name).as_string(connection)
        cursor = await connection.execute(_QUERIES["target_columns"], {"target": name})
        return await cursor.fetchall()

    def expected_columns(self, connection: Connection) -> list[tuple[str, tuple[str, ...]]]:
        """Return the columns the table must have, each with its types, the best one first."""
        return [
            *((column.name, (column.type_name, column.base_type_name)) for column in self.key),
            ("chunk_seq", ("integer",)),
            ("chunk", ("text",)),
            ("embedding", (f"{vector_schema(connection)}.{self.vector_type}",)),
            ("input_hash", ("bytea",)),
            ("embedded_at", ("timestamp with time zone",)),
        ]

    # -- Writing

    async def create(self, connection: Connection) -> None:
        """Create the table unless it exists.

        Raises PreconditionFailed where another table has its name, or the database lacks a type of the key.
        """
        try:
            query = self._compose(
                "create_target", vector_schema(connection), await self._foreign_domains(connection)
            )
            await connection.execute(query, {})
        except psycopg.errors.UndefinedObject as error:
            raise PreconditionFailed(
                f"The target database lacks what {self.name} needs: {error.diag.message_primary}",
                hint="create it there as it is in the source",
            ) from error
        await self.require_shape(connection)

    async def _foreign_domains(self, connection: Connection) -> frozenset[str]:
        """Return those of the key's types that are domains of a role that is not trusted.

        Superusers and walvec's own role are trusted. A domain's CHECK runs whenever a row is written, as
        walvec's role.
        """
        types = [column.type_name for column in self.key]
        cursor = await connection.execute(_QUERIES["foreign_domains"], {"types": types})
        return frozenset(name for (name,) in await cursor.fetchall())

    async def require_shape(self, connection: Connection) -> None:
        """Raise PreconditionFailed unless the table exists and has the expected columns."""
        found = dict(await self.read_columns(connection))
        if not found:
            raise PreconditionFailed(f"The target table {self.name} does not exist", hint="run: walvec setup")
        for name, kinds in self.expected_columns(connection):
            if found.get(name) not in kinds:
                raise PreconditionFailed(
                    f"The target table {self.name} should have a column {name} {kinds[0]}, "
                    f"and has {found.get(name, 'none')}",
                    hint=f"name another target; or DROP TABLE {self.name}, then run: walvec setup",
                )

    async def create_staging(self, connection: Connection) -> None:
        """Create the session's staging table."""
        await connection.execute(self.compose("create_staging", connection), {})

    async def delete_all(self, connection: Connection) -> None:
        """Delete every row's chunks."""
        await connection.execute(self.compose("delete_all_chunks", connection), {})

    async def delete_chunks(self, connection: Connection, keys: Sequence[Key], first: Sequence[int]) -> None:
        """Delete each key's chunks from the given `chunk_seq` on."""
        parameters = array_parameters(keys, self.key) | {"first": list(first)}
        await connection.execute(self.compose("delete_chunks", connection), parameters)

    async def stage_chunks(
        self, connection: Connection, chunks: Iterable[tuple[Key, int, Chunk, Vector | None]]
    ) -> None:
        """Copy chunks into the staging table, where `upsert_staged` finds them.

        Both belong to one transaction.
        """
        async with connection.cursor().copy(self.compose("fill_staging", connection)) as copy:
            copy.set_types([*["text"] * len(self.key), "int4", "text", "vector", "bytea"])
            for block in _copy_blocks(copy.formatter.write_row, chunks):
                await copy.write(block)

    async def upsert_staged(self, connection: Connection) -> None:
        """Put the staged chunks in their place.

        A chunk without a vector takes the one that the target holds for its hash. Raises psycopg's
        NotNullViolation where the target no longer holds it.
        """
        await connection.execute(self.compose("upsert_chunks", connection), {})


async def find_target(connection: Connection, vectorizer: Vectorizer, dimensions: int) -> TargetTable:
    """Describe a vectorizer's target from the target database alone.

    Raises PreconditionFailed where it is missing or of another shape.
    """
    try:
        relation = await describe(connection, *vectorizer.target)
    except PreconditionFailed as error:
        raise PreconditionFailed(
            f"The target table {vectorizer.target} does not exist", hint="run: walvec setup"
        ) from error
    columns = {column.name: column for column in relation.columns}
    table = TargetTable(
        vectorizer, [columns[name] for name in relation.key if name != "chunk_seq"], dimensions
    )
    await table.require_shape(connection)
    return table


def _copy_blocks(
    write_row: Callable[[Sequence[object]], Buffer], chunks: Iterable[tuple[Key, int, Chunk, Vector | None]]
) -> Iterator[bytes]:
    """Format rows for COPY, in blocks that are worth a call of the driver.

    `write_row` keeps the last rows in its own buffer; the end of COPY sends them.
    """
    block = bytearray()
    for key, chunk_seq, chunk, vector in chunks:
        block += write_row((*key, chunk_seq, chunk.text, vector, chunk.input_hash))
        if len(block) > _BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _comma(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
