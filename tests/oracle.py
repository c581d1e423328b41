"""What the targets must hold, worked out without walvec, and what they do hold.

`expected_chunks` reads the source's rows by SQL and cuts their texts with `Chunker`; nothing of the pipeline
is in it. `actual_chunks` reads the target, and fails at what no text explains.
"""

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tests.fix_embedding_service import vector_of
from walvec.config.load import TableName
from walvec.embed.protocol import Vector
from walvec.embed.vectors import MAX_VECTOR_DIMENSIONS
from walvec.stages.chunk import Chunker, input_hash

Key = tuple[str, ...]

# A row's chunks in order, by its key.
Chunks = dict[Key, list[str]]


@dataclass(frozen=True)
class Followed:
    """A vectorizer as the test knows it: its settings, and what f needs besides them."""

    settings: dict[str, Any]
    key: tuple[str, ...]
    row_filter: str

    @property
    def table(self) -> TableName:
        """The source's table."""
        return TableName.parse(self.settings["table"])

    @property
    def target(self) -> TableName:
        """The target's table."""
        return TableName.parse(self.settings["target"])

    def rows(self) -> sql.Composed:
        """The query for every row's key and text; NULL for a row without an embedding."""
        return sql.SQL(
            "SELECT {key}, CASE WHEN ({row_filter}) AND ({where}\n) THEN ({text}\n)::text END "
            "FROM {table} AS {alias}"
        ).format(
            key=_columns(self.key),
            row_filter=sql.SQL(self.row_filter),
            where=sql.SQL(self.settings.get("where", "true")),
            text=sql.SQL(self.settings["text"]),
            table=sql.Identifier(*self.table),
            alias=sql.Identifier(self.table.name),
        )

    def chunks(self) -> sql.Composed:
        """The query for every chunk: key, chunk_seq, chunk, embedding, input_hash."""
        return sql.SQL(
            "SELECT {key}, chunk_seq, chunk, embedding::real[], input_hash FROM {target} "
            "ORDER BY {order}, chunk_seq"
        ).format(
            key=_columns(self.key),
            target=sql.Identifier(*self.target),
            order=sql.SQL(", ").join(map(sql.Identifier, self.key)),
        )

    def chunker(self) -> Chunker:
        """What cuts its texts."""
        chunk = self.settings.get("chunk", {"size": 2000, "overlap": 200})
        return Chunker() if chunk == "none" else Chunker(chunk["size"], chunk["overlap"])


def _columns(key: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in key)


# -- f


def expected_chunks(source: psycopg.Connection, followed: Followed) -> Chunks:
    """Return what a vectorizer's target must hold: f(source)."""
    split = followed.chunker().split
    rows = source.execute(followed.rows()).fetchall()
    return {tuple(key): chunks for *key, text in rows if text and (chunks := split(text))}


def actual_chunks(target: psycopg.Connection, followed: Followed, *, model: str, dimensions: int) -> Chunks:
    """Return what a vectorizer's target holds.

    Fails at a chunk whose hash or vector is not its text's, and at a gap in chunk_seq.
    """
    found: Chunks = {}
    for *key, chunk_seq, chunk, vector, hashed in target.execute(followed.chunks()).fetchall():
        chunks = found.setdefault(tuple(key), [])
        assert chunk_seq == len(chunks), f"{key}: chunk_seq {chunk_seq} follows {len(chunks)} chunks"
        assert hashed == input_hash(model, dimensions, chunk), f"{key}: hash of another input"
        assert array("f", vector) == _stored_vector(chunk, dimensions), f"{key}: vector of another text"
        chunks.append(chunk)
    return found


def _stored_vector(text: str, dimensions: int) -> Vector:
    """Return the service's vector as a column holds it: past some dimensions it is halfvec."""
    vector = vector_of(text, dimensions)
    if len(vector) > MAX_VECTOR_DIMENSIONS:
        half = f"{len(vector)}e"
        return array("f", struct.unpack(half, struct.pack(half, *vector)))
    return vector


# -- Convergence


def mark_wal(source: psycopg.Connection) -> str:
    """Write a message into the WAL, and return its LSN, which the checkpoint has to pass.

    It is as long as what is worth a checkpoint, because pgoutput does not send its transaction.
    """
    message = "SELECT pg_logical_emit_message(true, 'tests', repeat('.', 70000))::text"
    ((lsn,),) = source.execute(message).fetchall()
    return str(lsn)


def checkpoint_is(target: psycopg.Connection, slot: str, condition: LiteralString, *values: object) -> bool:
    """Whether a condition on the slot's row of walvec.checkpoint holds."""
    query = sql.SQL("SELECT {} FROM walvec.checkpoint WHERE slot = %s").format(sql.SQL(condition))
    return target.execute(query, [*values, slot]).fetchone() == (True,)


def is_backfilled(target: psycopg.Connection, slot: str) -> bool:
    """Whether the backfill of each of the slot's vectorizers is done."""
    done = "SELECT coalesce(bool_and(phase = 'done'), true) FROM walvec.vectorizer WHERE slot = %s"
    return target.execute(done, [slot]).fetchone() == (True,)
