"""What is told of a batch once the target has it: to the log, the metrics and the trace alike."""

from dataclasses import dataclass

from walvec.stages.write import Batch, Position


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
