"""Texts -> requests of the right size, by number of inputs and by tokens. Pure.

A request is a `range` over the caller's texts, so nothing is copied and the order cannot be lost. Tokens are
estimated before sending (UTF-8 bytes / 3, safe for most text) and corrected by the service's own count.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

BYTES_PER_TOKEN = 3
# A request may hold more tokens per byte than the ones before it.
SAFETY = 1.1
# The bounds within which a ratio of counted to estimated tokens is believed.
RATIO_MIN, RATIO_MAX = 0.6, 8.0
# Answers after which a learned limit is raised again: at first, and at most.
TRY_AFTER, TRY_LATEST = 100, 6_400
# How fast the ratio of a dense request is forgotten: this part of the difference with each answer.
FORGET = 0.05


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most that one request may hold: inputs, and estimated tokens."""

    inputs: int
    tokens: int


class Lesson(NamedTuple):
    """What answers taught: limits, and counted tokens per estimated token."""

    inputs: int
    tokens: int
    ratio: float


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text, rather too high; at least 1."""
    size = len(text) if text.isascii() else len(text.encode())
    return size // BYTES_PER_TOKEN + 1


def take(tokens: Sequence[int], start: int, limits: RequestLimits) -> range:
    """Return the longest request that begins at `start` and keeps the limits.

    It holds at least one text, however long that is.
    """
    end = start + 1
    last = min(len(tokens), start + limits.inputs)
    total = tokens[start]
    while end < last and (total := total + tokens[end]) <= limits.tokens:
        end += 1
    return range(start, end)


def pack(tokens: Sequence[int], limits: RequestLimits, start: int = 0) -> Iterator[range]:
    """Yield all requests for the texts from `start` on, in order.

    `tokens` are the estimated tokens of all texts.
    """
    while start < len(tokens):
        request = take(tokens, start, limits)
        yield request
        start = request.stop


def cut(request: range, parts: int) -> list[range]:
    """Split a request into `parts` of about the same length.

    A request of fewer texts is split into single texts.
    """
    parts = min(parts, len(request))
    edges = [request.start + len(request) * part // parts for part in range(parts + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


class _Limit:
    """A limit that a refusal lowers at once, and that many answers raise again.

    It is raised because it may have been temporary, or misread. If the raised limit is refused, the next
    raise waits for twice as many answers.
    """

    __slots__ = ("_answers", "_most", "_patience", "_raised", "value")

    def __init__(self, most: int) -> None:
        self._most = most
        self.value = most
        # Answers since the limit last changed.
        self._answers = 0
        self._patience = TRY_AFTER
        # Whether it was raised since it was last lowered.
        self._raised = False

    def lower(self, to: int) -> None:
        self.value = min(self.value, max(1, to))
        if self._raised:
            self._patience = min(2 * self._patience, TRY_LATEST)
        self._answers, self._raised = 0, False

    def answered(self) -> None:
        if self.value >= self._most:
            return
        self._answers += 1
        if self._answers >= self._patience:
            self.value = min(self._most, self.value + max(1, self.value // 4))
            self._answers, self._raised = 0, True

    def restore(self, value: int) -> None:
        self.value = min(self._most, max(self.value, value))


class RequestBudget:
    """What one request may hold: as configured, and as answers have taught.

    Limits never exceed the configured ones. The ratio of counted to estimated tokens rises at once and falls
    slowly.
    """

    __slots__ = ("_inputs", "_ratio", "_tokens")

    def __init__(self, inputs: int, tokens: int) -> None:
        self._inputs = _Limit(inputs)
        # In tokens as the service counts them.
        self._tokens = _Limit(tokens)
        # Counted tokens per estimated token.
        self._ratio = 1.0

    @property
    def limits(self) -> RequestLimits:
        """The limits for the next request."""
        return RequestLimits(self._inputs.value, max(1, int(self._tokens.value / self._ratio)))

    def answered(self, estimated: int, counted: int | None) -> None:
        """Learn from an answer, and from its count of tokens if it has one."""
        self._inputs.answered()
        self._tokens.answered()
        if counted is None or counted < 1:
            return
        seen = min(max(counted / estimated * SAFETY, RATIO_MIN), RATIO_MAX)
        self._ratio = max(seen, self._ratio - (self._ratio - seen) * FORGET)

    def too_many_inputs(self, sent: int, limit: int | None) -> None:
        """Learn that `sent` inputs were too many for one request.

        `limit` is the number that the service named, if it did.
        """
        self._inputs.lower(limit if limit and limit < sent else sent // 2)

    def too_many_tokens(self, estimated: int, limit: int | None, counted: int | None) -> None:
        """Learn that a request of `estimated` tokens was too large.

        `limit` and `counted`, the service's own count of the request, are given if the service named them.
        """
        if limit and counted and counted > limit:
            self._tokens.lower(limit)
            self._ratio = min(max(self._ratio, counted / estimated), RATIO_MAX)
        else:
            self._tokens.lower(math.floor(estimated * self._ratio * 3 / 4))

    @property
    def lesson(self) -> Lesson:
        """What has been learned so far; `unlearn` takes it."""
        return Lesson(self._inputs.value, self._tokens.value, self._ratio)

    def unlearn(self, lesson: Lesson) -> None:
        """Return to an earlier lesson: what came after concerned a single text."""
        self._inputs.restore(lesson.inputs)
        self._tokens.restore(lesson.tokens)
        self._ratio = min(self._ratio, lesson.ratio)
