"""From a sample of rows to what embedding all of them takes. Pure.

That is requests, time, bytes and money. Tokens are estimated as for requests, at 3 bytes a token, which is
too many for most text: the bill is likely to be lower.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from walvec.commands.estimate.sampling import Basis, TextSample
from walvec.config.load import EmbedderSettings
from walvec.embed.pack import RequestLimits, pack
from walvec.embed.vectors import MAX_VECTOR_DIMENSIONS

VECTOR_HEADER = 8  # bytes


@dataclass(frozen=True, slots=True)
class Volume:
    """An amount of text as it is sent: in chunks, overlaps included."""

    rows: int
    chunks: int
    characters: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one vectorizer takes.

    `all` covers every row that has an embedding, `left` those that the target lacks. Everything but
    `rows_read` is carried on from the rows read to `table_rows`.
    """

    vectorizer: str
    table: str
    basis: Basis
    table_rows: int
    rows_read: int
    rows_failing: int
    # NULL, blank, or excluded by `where`.
    rows_without_text: int
    all: Volume
    left: Volume
    requests: int
    seconds: float
    # Of all vectors, without text, index and PostgreSQL's own overhead for each row.
    vector_bytes: int
    # In the currency of the price.
    cost: float | None


def estimate(
    name: str,
    table: str,
    sample: TextSample,
    embedder: EmbedderSettings,
    *,
    latency: float,
    price: float | None,
) -> Estimate:
    """Extrapolate a sample to the whole table.

    A request takes `latency` seconds; `price` is for a million tokens.
    """
    factor = sample.table_rows / sample.rows if sample.rows else 0.0
    every = _volume(sample.with_text, sample.tokens, sample.characters, factor)
    left = _volume(sample.left_rows, sample.left_tokens, sample.left_characters, factor)
    limits = RequestLimits(embedder.max_batch_inputs, embedder.max_batch_tokens)
    requests = _requests(sample.left_tokens, limits, factor)
    return Estimate(
        vectorizer=name,
        table=table,
        basis=sample.basis,
        table_rows=sample.table_rows,
        rows_read=sample.rows,
        rows_failing=round(sample.failing * factor),
        rows_without_text=round((sample.rows - sample.failing - sample.with_text) * factor),
        all=every,
        left=left,
        requests=requests,
        seconds=round(time_for(requests, embedder, latency), 1),
        vector_bytes=every.chunks * vector_size(embedder.dimensions),
        cost=None if price is None else round(left.tokens / 1_000_000 * price, 4),
    )


def time_for(requests: int, embedder: EmbedderSettings, latency: float) -> float:
    """Return the seconds that the requests take at the configured limits."""
    in_flight = math.ceil(requests / embedder.concurrency) * latency
    paced = requests / embedder.requests_per_second if embedder.requests_per_second else 0.0
    return max(in_flight, paced)


def vector_size(dimensions: int) -> int:
    """Return the bytes of a vector: float32, or half that past hnsw's limit."""
    return VECTOR_HEADER + dimensions * (4 if dimensions <= MAX_VECTOR_DIMENSIONS else 2)


def _volume(rows: int, tokens: Sequence[int], characters: int, factor: float) -> Volume:
    return Volume(
        rows=round(rows * factor),
        chunks=round(len(tokens) * factor),
        characters=round(characters * factor),
        tokens=round(sum(tokens) * factor),
    )


def _requests(tokens: Sequence[int], limits: RequestLimits, factor: float) -> int:
    """Pack the sample as the dispatcher would, and extrapolate.

    A last request that is not full counts for what it holds.
    """
    packed = list(pack(tokens, limits))
    if not packed:
        return 0
    full = len(packed) - 1
    if not full:
        # At most one request: both limits decide how many samples fill one.
        share = max(len(tokens) / limits.inputs, sum(tokens) / limits.tokens)
        return max(1, math.ceil(min(share, 1.0) * factor))
    per_request = packed[-1].start / full
    return max(1, math.ceil(len(tokens) * factor / per_request))
