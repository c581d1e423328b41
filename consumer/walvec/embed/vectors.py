"""Are these the vectors of the texts that were sent, and can the column hold them? Pure.

What `dispatch` trusts and `write` stores has passed here.
"""

import re
import sys
from array import array
from collections.abc import Iterable, Sequence
from math import isfinite

from walvec.embed.errors import BadAnswer
from walvec.embed.protocol import Vector

MAX_VECTOR_DIMENSIONS = 2_000  # that hnsw indexes as vector; past it the column is halfvec
HALF_MAX = 65_504.0  # the largest number that a component of halfvec holds

# Where a float32 keeps its sign and the most of its exponent. NaN and infinities have an exponent of ones
# only.
_TOP_BYTE = 3 if sys.byteorder == "little" else 0
_ONES, _ONES_NEGATIVE = b"\x7f", b"\xff"
# Its top byte where it is 32,768 or more, of either sign.
_LARGE = re.compile(b"[\x47-\x7f\xc7-\xff]")


def as_vector(numbers: Iterable[float]) -> Vector:
    """Round to float32. Raises BadAnswer if they aren't numbers."""
    try:
        return array("f", numbers)
    except (TypeError, OverflowError):
        raise BadAnswer("an embedding holds something that is no number") from None


def in_order(vectors: list[Vector], positions: Sequence[object], texts: int) -> list[Vector]:
    """Put the answers for a request's texts in their order, by the positions that they carry.

    All None: they are in order. One None among others: that is the first, whose 0 a protobuf leaves out.
    Raises BadAnswer unless each position is there once.
    """
    if len(vectors) != texts:
        raise BadAnswer(f"{len(vectors)} embeddings came back for {texts} texts")
    if list(positions) == list(range(texts)) or all(position is None for position in positions):
        return vectors
    if positions.count(None) == 1:
        positions = [0 if position is None else position for position in positions]
    placed = {
        position: vector
        for position, vector in zip(positions, vectors, strict=True)
        if isinstance(position, int)
    }
    try:
        return [placed[position] for position in range(texts)]
    except KeyError:
        raise BadAnswer("the embeddings' index numbers are not those of the texts") from None


def check_vectors(vectors: Sequence[Vector], texts: int, dimensions: int) -> None:
    """Raise BadAnswer unless there is one vector a text, of the right length, of numbers that are stored."""
    if len(vectors) != texts:
        raise BadAnswer(f"{len(vectors)} embeddings came back for {texts} texts")
    for vector in vectors:
        if len(vector) != dimensions:
            raise BadAnswer(
                f"an embedding has {len(vector)} dimensions, {dimensions} are configured",
                hint="set [embedder] dimensions to what the model gives, or choose another model",
            )
        if not _is_finite(vector):
            raise BadAnswer("an embedding holds NaN or an infinity")
        if dimensions > MAX_VECTOR_DIMENSIONS and not _fits_half(vector):
            raise BadAnswer(
                f"an embedding holds a number past {HALF_MAX:,.0f}, the most that halfvec holds",
                hint=f"set [embedder] dimensions to {MAX_VECTOR_DIMENSIONS} or fewer, or normalise the model",
            )


def _is_finite(vector: Vector) -> bool:
    """Look at one byte of each number first: hardly a vector has one past 1e38, which takes a closer look."""
    top = vector.tobytes()[_TOP_BYTE::4]
    if _ONES not in top and _ONES_NEGATIVE not in top:
        return True
    # A sum of float32 values can't overflow a double; NaN and infinities stay in it.
    return isfinite(sum(vector))


def _fits_half(vector: Vector) -> bool:
    """Look at one byte of each number first, as above."""
    if not _LARGE.search(vector.tobytes()[_TOP_BYTE::4]):
        return True
    return min(vector) >= -HALF_MAX and max(vector) <= HALF_MAX
