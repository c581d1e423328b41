"""Texts -> requests that the embedding service will take: packed by number of inputs and by tokens.

Pure. A request is a `range` over the caller's texts, so nothing is copied and the order can't be lost.
Tokens are estimated before sending (UTF-8 bytes / 3, safe for most text) and corrected by what the service
says it counted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BYTES_PER_TOKEN = 3
SAFETY = 1.1  # a batch may be denser in tokens than the ones before it
RATIO_MIN, RATIO_MAX = 0.6, 8.0  # tokens counted per token estimated that are believed
FORGET = 0.05  # how fast a batch of dense text is forgotten


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one request may hold: inputs, and tokens by our estimate."""

    inputs: int
    tokens: int


def estimate_tokens(text: str) -> int:
    """Tokens of a text, guessed on the safe side; at least 1."""
    size = len(text) if text.isascii() else len(text.encode())
    return size // BYTES_PER_TOKEN + 1


def take(tokens: Sequence[int], start: int, limits: Limits) -> range:
    """The longest request that begins at `start` and keeps the limits; always one text, however long."""
    end = start + 1
    last = min(len(tokens), start + limits.inputs)
    total = tokens[start]
    while end < last and (total := total + tokens[end]) <= limits.tokens:
        end += 1
    return range(start, end)


def pack(tokens: Sequence[int], limits: Limits, start: int = 0) -> Iterator[range]:
    """All requests for the texts from `start` on, whose estimated tokens these are, in order."""
    while start < len(tokens):
        request = take(tokens, start, limits)
        yield request
        start = request.stop


def halve(request: range) -> tuple[range, range]:
    """Split a request of two texts or more."""
    middle = (request.start + request.stop) // 2
    return range(request.start, middle), range(middle, request.stop)


class Budget:
    """What one request may hold: as configured, and as the service's answers have taught since.

    Limits are only ever lowered. The ratio of counted to estimated tokens goes up at once and comes down
    slowly.
    """

    __slots__ = ("_inputs", "_ratio", "_tokens")

    def __init__(self, inputs: int, tokens: int) -> None:
        self._inputs = inputs
        self._tokens = tokens  # by the service's count
        self._ratio = 1.0  # tokens counted per token estimated

    @property
    def limits(self) -> Limits:
        """The limits for the next request."""
        return Limits(self._inputs, max(1, int(self._tokens / self._ratio)))

    def answered(self, estimated: int, counted: int | None) -> None:
        """Learn from an answer's `usage`, where the service gives one."""
        if counted is None or counted < 1:
            return
        seen = min(max(counted / estimated * SAFETY, RATIO_MIN), RATIO_MAX)
        self._ratio = max(seen, self._ratio - (self._ratio - seen) * FORGET)

    def too_many_inputs(self, sent: int, limit: int | None) -> None:
        """Learn that `sent` inputs were too many for one request; `limit` is what the service named, if it
        did.
        """
        self._inputs = min(self._inputs, max(1, limit if limit and limit < sent else sent // 2))

    def too_many_tokens(self, estimated: int, limit: int | None, counted: int | None) -> None:
        """Learn that a request of so many estimated tokens was too much; `counted` is the service's own
        count of it.
        """
        if limit and counted and counted > limit:
            self._tokens = min(self._tokens, limit)
            self._ratio = min(max(self._ratio, counted / estimated), RATIO_MAX)
        else:
            self._tokens = min(self._tokens, max(1, math.floor(estimated * self._ratio * 3 / 4)))
