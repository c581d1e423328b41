"""Do the vectors belong to the texts sent, and can the column hold them? Pure.

`service` checks every answer with it, and `write` relies on that.
"""

import re
import sys
from array import array
from collections.abc import Iterable, Sequence
from math import isfinite

from walvec.embed.errors import BadAnswer
from walvec.embed.protocol import Vector

# The most dimensions that hnsw indexes as vector; with more the column is halfvec.
MAX_VECTOR_DIMENSIONS = 2_000
# The largest number that a component of halfvec holds.
HALF_MAX = 65_504.0

# The byte of a float32 that holds the sign and most of the exponent. In NaN and infinities all bits of the
# exponent are set.
_TOP_BYTE = 3 if sys.byteorder == "little" else 0
_ONES, _ONES_NEGATIVE = b"\x7f", b"\xff"
# That byte in numbers of 32,768 or more, of either sign.
_LARGE = re.compile(b"[\x47-\x7f\xc7-\xff]")


def as_vector(numbers: Iterable[float]) -> Vector:
    """Round numbers to float32. Raises BadAnswer if one is not a number."""
    try:
        return array("f", numbers)
    except (TypeError, OverflowError):
        raise BadAnswer("An embedding holds a value that is not a number") from None


def in_order(vectors: list[Vector], positions: Sequence[object], texts: int) -> list[Vector]:
    """Put the vectors of a request in the order of its texts.

    `positions` came with them. If all positions are None, the vectors are in order. If exactly one is None,
    it is the first: protobuf leaves a 0 out. Raises BadAnswer unless there is one vector a text and each
    position occurs once.
    """
    _check_count(vectors, texts)
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
        raise BadAnswer("The embeddings' index numbers do not match the texts") from None


def check_vectors(vectors: Sequence[Vector], texts: int, dimensions: int) -> None:
    """Check the vectors of a request before anybody uses them.

    Raises BadAnswer unless there is one a text, of the right length, that the column can hold.
    """
    _check_count(vectors, texts)
    for vector in vectors:
        if len(vector) != dimensions:
            raise BadAnswer(
                f"An embedding has {len(vector)} dimensions, {dimensions} are configured",
                hint=f"set [embedder] dimensions to {len(vector)}, or choose another model",
            )
        if not _is_finite(vector):
            raise BadAnswer("An embedding holds NaN or an infinity")
        if dimensions > MAX_VECTOR_DIMENSIONS and not _fits_half(vector):
            raise BadAnswer(
                f"An embedding holds a number above {HALF_MAX:,.0f}, the largest that halfvec holds",
                hint=f"set [embedder] dimensions to {MAX_VECTOR_DIMENSIONS} or fewer, or normalise the model",
            )


def _check_count(vectors: Sequence[Vector], texts: int) -> None:
    if len(vectors) != texts:
        raise BadAnswer(f"{len(vectors)} embeddings came back for {texts} texts")


def _is_finite(vector: Vector) -> bool:
    """Whether no component is NaN or infinite.

    One byte of each component decides nearly always; only numbers beyond 1e38 need a closer look.
    """
    top = vector.tobytes()[_TOP_BYTE::4]
    if _ONES not in top and _ONES_NEGATIVE not in top:
        return True
    # A sum of float32 values cannot overflow a double, and NaN and infinities survive in it.
    return isfinite(sum(vector))


def _fits_half(vector: Vector) -> bool:
    """Whether halfvec can hold every component; see `_is_finite`."""
    if not _LARGE.search(vector.tobytes()[_TOP_BYTE::4]):
        return True
    return min(vector) >= -HALF_MAX and max(vector) <= HALF_MAX
