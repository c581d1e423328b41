"""What one transaction writes, how far it takes the stream, and what is reported.

A batch is a segment, or a slice of one, once it is prepared. Everything here is a value: where the target
refuses rows, another batch without them is written instead.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import psycopg

from walvec.database.checkpoint import Landmark
from walvec.database.keys import Key
from walvec.database.registry import Phase
from walvec.embed.protocol import Vector
from walvec.policy import is_of_another_type, refusal_of
from walvec.stages.stopwatch import StageTimes
from walvec.vectorizer.target import Chunk
from walvec_slots.lsn import Lsn

# A row's key, chunk_seq, the chunk, and its vector; None where the target moves the one it has.
PlacedChunk = tuple[Key, int, Chunk, Vector | None]


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that cannot be embedded, for the dead letters.

    It holds nothing of the row's content.
    """

    key: Key
    stage: str
    error_class: str
    error_message: str

    # Whether its cause may pass, so that the row is tried again without a command.
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill is once the rows it comes with are written."""

    phase: Phase
    last_key: Key | None

    # Rows read since the last progress.
    rows: int


@dataclass(frozen=True, slots=True)
class Batch:
    """All that one transaction changes for one vectorizer."""

    # Whether its segment is done with it.
    is_last: bool = True

    # Whether every row of the target goes, before anything else.
    truncate: bool = False

    # Rows that have no embedding.
    gone: Sequence[Key] = ()

    # Rows that have fewer chunks than before, and how many they have now.
    surplus: Sequence[tuple[Key, int]] = ()

    chunks: Sequence[PlacedChunk] = ()
    parked: Sequence[Parked] = ()

    # Rows whose dead letters are superseded.
    settled: Sequence[Key] = ()

    progress: Progress | None = None

    # Whether the target's keys are to be looked up in the source from now on.
    sweep: bool = False

    # Chunks of all its rows, those that the target holds already included.
    texts: int = 0

    # Texts that were sent to be embedded, and how many of these were refused.
    embedded: int = 0
    refused: int = 0

    # Bytes of memory that its chunks and vectors are counted as.
    weight: int = 0

    # Whether a row that is parked keeps the vectors of its last good text.
    keep_parked: bool = False

    def keys(self) -> list[Key]:
        """Return the rows that it changes in the target."""
        chunks = (row[0] for row in self.chunks)
        return list(dict.fromkeys([*self.gone, *(key for key, _ in self.surplus), *chunks]))

    def restricted_to(self, keys: Collection[Key]) -> "Batch":
        """Return what it changes of these rows alone."""
        wanted = set(keys)
        return Batch(
            gone=[key for key in self.gone if key in wanted],
            surplus=[row for row in self.surplus if row[0] in wanted],
            chunks=[row for row in self.chunks if row[0] in wanted],
        )

    def parking(self, errors: Mapping[Key, psycopg.Error]) -> "Batch":
        """Return the batch with the rows parked that the target refuses.

        A row that is to be deleted, and whose key the target's types cannot even express, is not parked: it
        is not there.
        """
        deletions, parked_before = set(self.gone), {row.key for row in self.parked}
        absent = {key for key, error in errors.items() if key in deletions and is_of_another_type(error)}
        refused = errors.keys() - absent - parked_before
        gone = [key for key in self.gone if key not in errors]
        return replace(
            self,
            gone=gone if self.keep_parked else [*gone, *(refused - deletions)],
            surplus=[row for row in self.surplus if row[0] not in errors],
            chunks=[row for row in self.chunks if row[0] not in errors],
            parked=[
                *self.parked,
                *(Parked(key, "write", *refusal_of(errors[key])) for key in errors if key in refused),
            ],
            settled=[key for key in self.settled if key not in refused],
        )


class PreparedBatch(NamedTuple):
    """A batch, and what its time went into so far."""

    batch: Batch
    times: StageTimes


@dataclass(frozen=True, slots=True)
class Position:
    """How far the stream is applied once a batch is committed."""

    # By the batch's vectorizer.
    applied: Lsn

    # By all vectorizers.
    checkpoint: Lsn

    unseen_xids: Collection[int]

    # The last commit that the checkpoint covers.
    landmark: Landmark | None = None

    # Transactions that asked for something and are complete with the batch.
    transactions: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """A batch that the target has, for the log, the metrics and the trace alike."""

    vectorizer: str
    batch: Batch
    position: Position
    times: StageTimes = field(default_factory=StageTimes)

    def counts(self) -> dict[str, int]:
        """Return what it did, in numbers, by their names in log and spans."""
        batch = self.batch
        return {
            "transactions": self.position.transactions,
            "rows": len(batch.settled) + len(batch.parked),
            "rows_without_embedding": len(batch.gone),
            "rows_parked": len(batch.parked),
            "texts_embedded": batch.embedded - batch.refused,
            "texts_reused": batch.texts - batch.embedded,
            "chunks_written": len(batch.chunks),
        }
