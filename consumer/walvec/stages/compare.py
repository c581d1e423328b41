"""What differs between a slice's chunks and those that the target holds.

Pure: values in, values out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from walvec.database.keys import Key
from walvec.vectorizer.target import Chunk


class ChangedChunk(NamedTuple):
    """A chunk that the target does not hold at its place."""

    key: Key
    chunk_seq: int
    chunk: Chunk

    # Whether its vector has to be made; otherwise the target holds it at another place of the row.
    is_new: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """What has to change in the target."""

    # Rows that have no chunks.
    gone: Sequence[Key]

    # Rows that have fewer chunks than the target holds, and how many they have.
    surplus: Sequence[tuple[Key, int]]

    chunks: Sequence[ChangedChunk]

    # Chunks of all rows, unchanged ones included.
    texts: int

    def new_texts(self) -> dict[bytes, str]:
        """Return the texts that have to be embedded, each once, by their hashes."""
        return {row.chunk.input_hash: row.chunk.text for row in self.chunks if row.is_new}


def compare(rows: Mapping[Key, Sequence[Chunk]], held: Mapping[Key, Mapping[int, bytes]]) -> Difference:
    """Compare the chunks of rows with the hashes that the target holds.

    A row's chunks are in order; its hashes in `held` are by `chunk_seq`. `held` has no entry for a row
    that the target does not know.
    """
    with_chunks = {key: chunks for key, chunks in rows.items() if chunks}
    return Difference(
        gone=[key for key, chunks in rows.items() if not chunks],
        surplus=[
            (key, len(chunks))
            for key, chunks in with_chunks.items()
            if max(held.get(key, ()), default=-1) >= len(chunks)
        ],
        chunks=[
            row for key, chunks in with_chunks.items() for row in _changed(key, chunks, held.get(key, {}))
        ],
        texts=sum(map(len, rows.values())),
    )


def _changed(key: Key, chunks: Sequence[Chunk], held: Mapping[int, bytes]) -> Iterator[ChangedChunk]:
    hashes = set(held.values())
    for chunk_seq, chunk in enumerate(chunks):
        if held.get(chunk_seq) != chunk.input_hash:
            yield ChangedChunk(key, chunk_seq, chunk, is_new=chunk.input_hash not in hashes)
