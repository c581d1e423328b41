"""Are these the vectors of the texts that were sent? Pure; what `dispatch` trusts and `write` stores has
passed here.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence
from math import isfinite

from consumer.embed import Vector
from consumer.embed.errors import BadAnswer

# Where a float32 keeps its sign and the most of its exponent. NaN and infinities have an exponent of ones
# only.
_TOP_BYTE = 3 if sys.byteorder == "little" else 0
_ONES, _ONES_NEGATIVE = b"\x7f", b"\xff"


def as_vector(numbers: Iterable[float]) -> Vector:
    """Round to float32. Raises BadAnswer if they aren't numbers."""
    try:
        return array("f", numbers)
    except (TypeError, OverflowError):
        raise BadAnswer("an embedding holds something that is no number") from None


def in_order(vectors: list[Vector], positions: Sequence[object]) -> list[Vector]:
    """Put answers back in the order of the texts by the positions they carry; all None: they are in order.

    Raises BadAnswer unless each position is there once.
    """
    count = len(vectors)
    if list(positions) == list(range(count)) or all(position is None for position in positions):
        return vectors
    placed: dict[object, Vector] = dict(zip(positions, vectors, strict=True))
    try:
        return [placed[position] for position in range(count)]
    except KeyError:
        raise BadAnswer("the embeddings' index numbers are not those of the texts") from None


def check(vectors: Sequence[Vector], texts: int, dimensions: int) -> None:
    """Raise BadAnswer unless there is one vector a text, of the right length, of finite numbers."""
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


def _is_finite(vector: Vector) -> bool:
    """Look at one byte of each number first: hardly a vector has one past 1e38, which takes a closer look."""
    top = vector.tobytes()[_TOP_BYTE::4]
    if _ONES not in top and _ONES_NEGATIVE not in top:
        return True
    # A sum of float32 values can't overflow a double; NaN and infinities stay in it.
    return isfinite(sum(vector))
