"""What one transaction writes, how far the stream is applied with it, and what is told of it afterwards."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import psycopg

from walvec.database.checkpoint import Landmark
from walvec.database.keys import Key
from walvec.database.registry import Phase
from walvec.embed.protocol import Vector
from walvec.policy import is_of_another_type, refusal_of
from walvec.stages.stopwatch import StageTimes
from walvec.vectorizer.target import Chunk
from walvec_slots.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that cannot be embedded, for the dead letters. Says nothing of the row's content.

    `passes`: its cause may pass, so it is tried again by itself.
    """

    key: Key
    stage: str
    error_class: str
    error_message: str
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill is, once the rows it comes with are written."""

    phase: Phase
    last_key: Key | None
    rows: int  # read since the last progress


@dataclass(slots=True)
class Batch:
    """All that one transaction changes for one vectorizer: a segment, or a slice of one."""

    is_last: bool = True  # of its segment: the segment is done with it
    truncate: bool = False
    gone: list[Key] = field(default_factory=list)  # rows without an embedding
    surplus: list[tuple[Key, int]] = field(
        default_factory=list
    )  # rows of fewer chunks than before, and how many now
    chunks: list[tuple[Key, int, Chunk, Vector | None]] = field(
        default_factory=list
    )  # as TargetTable.upsert takes
    parked: list[Parked] = field(default_factory=list)
    settled: list[Key] = field(default_factory=list)  # rows whose dead letters are superseded
    progress: Progress | None = None
    embedded: int = 0  # texts that were sent to be embedded
    refused: int = 0  # of these
    texts: int = 0  # chunks of all its rows, those that the target holds already included
    sweep: bool = False  # look the target's keys up in the source from now on
    weight: int = 0  # bytes of memory that its chunks and vectors are counted as
    stages: StageTimes = field(default_factory=StageTimes)  # what its time goes into
    keep_parked: bool = False  # a row that is parked keeps the vectors of its last good text

    def keys(self) -> list[Key]:
        """Return the rows that it changes in the target."""
        chunks = (row[0] for row in self.chunks)
        return list(dict.fromkeys([*self.gone, *(key for key, _ in self.surplus), *chunks]))

    def part(self, keys: Collection[Key]) -> "Batch":
        """Return what it changes of these rows alone."""
        wanted = set(keys)
        return Batch(
            gone=[key for key in self.gone if key in wanted],
            surplus=[row for row in self.surplus if row[0] in wanted],
            chunks=[row for row in self.chunks if row[0] in wanted],
        )

    def refuse(self, errors: Mapping[Key, psycopg.Error]) -> None:
        """Take the rows that the target refuses out of what is written, and park them instead.

        Not one that is to be deleted and that the target's types cannot even express: it is not there.
        """
        deletions, before = set(self.gone), {row.key for row in self.parked}
        absent = {key for key, error in errors.items() if key in deletions and is_of_another_type(error)}
        self.chunks = [row for row in self.chunks if row[0] not in errors]
        self.surplus = [row for row in self.surplus if row[0] not in errors]
        self.gone = [key for key in self.gone if key not in errors]
        out = errors.keys() - absent - before
        self.settled = [key for key in self.settled if key not in out]
        if not self.keep_parked:
            self.gone += out - deletions
        self.parked += [Parked(key, "write", *refusal_of(errors[key])) for key in errors if key in out]


@dataclass(frozen=True, slots=True)
class Position:
    """How far the stream is applied once a batch is committed."""

    applied: Lsn  # by this vectorizer
    checkpoint: Lsn  # by all of them
    unseen_xids: Collection[int]
    landmark: Landmark | None = None  # the last commit that the checkpoint covers
    transactions: int = 0  # that asked for something, and are complete with the batch


@dataclass(frozen=True, slots=True)
class Committed:
    """A batch of one vectorizer, and how far the stream is applied with it."""

    vectorizer: str
    batch: Batch
    position: Position

    def counts(self) -> dict[str, int]:
        """Return what it did, in numbers, under the names that log and spans have for them."""
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
