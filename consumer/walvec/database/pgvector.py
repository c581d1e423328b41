"""pgvector in a target database: its schema, and how its vectors are sent.

Sessions have only PostgreSQL's own schema in their search path, so pgvector's type, casts, operators and
operator classes are written with their schema. That is looked up once a session.
"""

import struct
import sys
from array import array
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

from walvec.embed.protocol import Vector
from walvec_slots.errors import PreconditionFailed
from walvec_slots.queries import load_sql

_QUERIES = load_sql("session.sql")

CREATE_EXTENSION: Final = load_sql("target.sql")["create_extension"]


class VectorType(TypeInfo):
    """The type `vector`; `schema` is where pgvector is, as SQL."""

    def __init__(self, oid: int, array_oid: int, schema: str) -> None:
        super().__init__("vector", oid, array_oid)
        self.schema = schema


async def find_vectors(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Find pgvector's schema, and teach the session to send `array('f')`.

    Returns False where pgvector is missing.
    """
    cursor = await connection.execute(_QUERIES["vector_type"])
    row = await cursor.fetchone()
    if row is None:
        return False
    found = VectorType(*row)
    found.register(connection)
    connection.adapters.register_dumper(array, type("VectorDumper", (_VectorDumper,), {"oid": found.oid}))
    return True


def vector_schema(connection: psycopg.AsyncConnection[Any]) -> str:
    """Return the schema that pgvector is in, as SQL.

    Raises PreconditionFailed where it is missing.
    """
    found = connection.adapters.types.get("vector")
    if not isinstance(found, VectorType):
        raise PreconditionFailed(
            "The target database has no extension vector",
            hint=f"run there, as a superuser: {CREATE_EXTENSION}",
        )
    return found.schema


async def require_vectors(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raise PreconditionFailed unless the session's role may use pgvector's schema."""
    schema = vector_schema(connection)
    cursor = await connection.execute(_QUERIES["may_use_vectors"])
    if await cursor.fetchone() != (True,):
        raise PreconditionFailed(
            f"Role {connection.info.user} may not use schema {schema}, in which pgvector is",
            hint=f"GRANT USAGE ON SCHEMA {schema} TO {sql.Identifier(connection.info.user).as_string()}",
        )


class _VectorDumper(Dumper):
    """Sends a vector in pgvector's wire format.

    That is the dimensions and zero, 16 bits each, then float32, all big-endian.
    """

    format = Format.BINARY

    def dump(self, obj: Vector) -> bytes:
        if sys.byteorder == "little":
            obj = obj[:]
            obj.byteswap()
        return struct.pack(">HH", len(obj), 0) + obj.tobytes()
