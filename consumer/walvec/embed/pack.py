"""Texts -> requests that the embedding service will take: packed by number of inputs and by tokens.

Pure. A request is a `range` over the caller's texts, so nothing is copied and the order can't be lost.
Tokens are estimated before sending (UTF-8 bytes / 3, safe for most text) and corrected by what the service
says it counted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

BYTES_PER_TOKEN = 3
SAFETY = 1.1  # a batch may be denser in tokens than the ones before it
RATIO_MIN, RATIO_MAX = 0.6, 8.0  # tokens counted per token estimated that are believed
TRY_AFTER, TRY_LATEST = 100, 6_400  # answers after which a learned limit is tried higher again
FORGET = 0.05  # how fast a batch of dense text is forgotten


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most that one request may hold: inputs, and tokens by our estimate."""

    inputs: int
    tokens: int


class Lesson(NamedTuple):
    """What answers have taught: limits, and tokens counted per token estimated."""

    inputs: int
    tokens: int
    ratio: float


def estimate_tokens(text: str) -> int:
    """Tokens of a text, guessed on the safe side; at least 1."""
    size = len(text) if text.isascii() else len(text.encode())
    return size // BYTES_PER_TOKEN + 1


def take(tokens: Sequence[int], start: int, limits: RequestLimits) -> range:
    """The longest request that begins at `start` and keeps the limits; always one text, however long."""
    end = start + 1
    last = min(len(tokens), start + limits.inputs)
    total = tokens[start]
    while end < last and (total := total + tokens[end]) <= limits.tokens:
        end += 1
    return range(start, end)


def pack(tokens: Sequence[int], limits: RequestLimits, start: int = 0) -> Iterator[range]:
    """All requests for the texts from `start` on, whose estimated tokens these are, in order."""
    while start < len(tokens):
        request = take(tokens, start, limits)
        yield request
        start = request.stop


def cut(request: range, parts: int) -> list[range]:
    """Split a request into parts of about the same length: `parts` of them, or as many as it has texts."""
    parts = min(parts, len(request))
    edges = [request.start + len(request) * part // parts for part in range(parts + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


class _Limit:
    """A limit that is lowered by a refusal at once, and tried higher again after many answers.

    A limit may be of one moment, or misread. A try that is refused doubles the answers until the next.
    """

    __slots__ = ("_answers", "_most", "_patience", "_tried", "value")

    def __init__(self, most: int) -> None:
        self._most = most
        self.value = most
        self._answers = 0  # since it was last changed
        self._patience = TRY_AFTER
        self._tried = False  # higher, since it was last lowered

    def lower(self, to: int) -> None:
        self.value = min(self.value, max(1, to))
        if self._tried:
            self._patience = min(2 * self._patience, TRY_LATEST)
        self._answers, self._tried = 0, False

    def answered(self) -> None:
        if self.value >= self._most:
            return
        self._answers += 1
        if self._answers >= self._patience:
            self.value = min(self._most, self.value + max(1, self.value // 4))
            self._answers, self._tried = 0, True

    def restore(self, value: int) -> None:
        self.value = min(self._most, max(self.value, value))


class RequestBudget:
    """What one request may hold: as configured, and as the service's answers have taught since.

    Limits are never raised past what is configured. The ratio of counted to estimated tokens goes up at once
    and comes down slowly.
    """

    __slots__ = ("_inputs", "_ratio", "_tokens")

    def __init__(self, inputs: int, tokens: int) -> None:
        self._inputs = _Limit(inputs)
        self._tokens = _Limit(tokens)  # by the service's count
        self._ratio = 1.0  # tokens counted per token estimated

    @property
    def limits(self) -> RequestLimits:
        """The limits for the next request."""
        return RequestLimits(self._inputs.value, max(1, int(self._tokens.value / self._ratio)))

    def answered(self, estimated: int, counted: int | None) -> None:
        """Learn from an answer, and from its `usage` where the service gives one."""
        self._inputs.answered()
        self._tokens.answered()
        if counted is None or counted < 1:
            return
        seen = min(max(counted / estimated * SAFETY, RATIO_MIN), RATIO_MAX)
        self._ratio = max(seen, self._ratio - (self._ratio - seen) * FORGET)

    def too_many_inputs(self, sent: int, limit: int | None) -> None:
        """Learn that `sent` inputs were too many for one request; `limit` is what the service named, if it
        did.
        """
        self._inputs.lower(limit if limit and limit < sent else sent // 2)

    def too_many_tokens(self, estimated: int, limit: int | None, counted: int | None) -> None:
        """Learn that a request of so many estimated tokens was too much; `counted` is the service's own
        count of it.
        """
        if limit and counted and counted > limit:
            self._tokens.lower(limit)
            self._ratio = min(max(self._ratio, counted / estimated), RATIO_MAX)
        else:
            self._tokens.lower(math.floor(estimated * self._ratio * 3 / 4))

    @property
    def lesson(self) -> Lesson:
        """What has been learned so far, for `unlearn`."""
        return Lesson(self._inputs.value, self._tokens.value, self._ratio)

    def unlearn(self, lesson: Lesson) -> None:
        """Go back to an earlier lesson: what was learned since was about one text, and no limit."""
        self._inputs.restore(lesson.inputs)
        self._tokens.restore(lesson.tokens)
        self._ratio = min(self._ratio, lesson.ratio)
