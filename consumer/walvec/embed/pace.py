"""How often requests may start. Pure: the clock is the caller's.

Three things hold a request back: the configured rate, a Retry-After (which is for everybody, not only for
the request that got it), and a slower pace learned from refusals, because a service that says 429 without a
number leaves finding it to us.
"""

PACE_FIRST = 0.1  # seconds between requests after the first 429
PACE_MAX = 2.0  # a service that wants fewer still makes requests wait one by one, by refusing them again
PACE_GONE = 0.02  # a learned pace quicker than this is none
SLOWER = 1.5  # what a 429 makes of a learned pace
FASTER = 0.8  # and what an answer does: it stands still where about every third request is refused


class Pace:
    """Decides when the next request may start; times are seconds of one monotonic clock."""

    __slots__ = ("_configured", "_learned", "_next", "_resume", "_slowed")

    def __init__(self, per_second: float) -> None:
        self._configured = 1 / per_second if per_second else 0.0
        self._learned = 0.0
        self._next = 0.0  # no request starts before
        self._resume = 0.0  # nor before this: the service asked for silence
        self._slowed = 0.0  # when the learned pace last grew

    @property
    def interval(self) -> float:
        """Seconds between the starts of two requests."""
        return max(self._configured, self._learned)

    def delay(self, now: float) -> float:
        """Seconds until a request may start; 0: now."""
        return max(0.0, self._next - now, self._resume - now)

    def started(self, now: float) -> None:
        """Note that a request starts."""
        self._next = now + self.interval

    def answered(self) -> None:
        """Note an answer: go a little faster again."""
        self._learned *= FASTER
        if self._learned < PACE_GONE:
            self._learned = 0.0

    def limited(self, now: float, retry_after: float | None) -> None:
        """Note a 429. Requests in flight together get it together: it slows down once for all of them."""
        if retry_after is not None:
            self._resume = max(self._resume, now + retry_after)
        elif now - self._slowed >= self._learned or not self._learned:
            self._learned = min(max(SLOWER * self._learned, PACE_FIRST), PACE_MAX)
            self._slowed = now
            self._next = max(self._next, now + self._learned)
