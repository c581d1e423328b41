"""How often requests may start. Pure: the caller passes the time.

Three things hold a request back:

1. the configured rate;
2. a Retry-After, which applies to every request and not only to the one that received it;
3. a slower pace learned from refusals, because a service may answer 429 without saying how fast is allowed.
"""

# Seconds between requests after the first 429.
PACE_FIRST = 0.1
# The slowest learned pace, in seconds. A service that wants fewer requests still refuses them one by one.
PACE_MAX = 2.0
# A learned pace below this many seconds is dropped.
PACE_GONE = 0.02
# A 429 multiplies the learned pace by SLOWER, an answer by FASTER: it settles where about every third request
# is refused.
SLOWER = 1.5
FASTER = 0.8


class Pace:
    """Decides when the next request may start, in seconds of one monotonic clock."""

    __slots__ = ("_configured", "_learned", "_next", "_resume", "_slowed")

    def __init__(self, per_second: float) -> None:
        self._configured = 1 / per_second if per_second else 0.0
        self._learned = 0.0
        # No request starts before `_next`, nor before `_resume`, which a Retry-After sets.
        self._next = 0.0
        self._resume = 0.0
        # When the learned pace last grew.
        self._slowed = 0.0

    @property
    def interval(self) -> float:
        """Seconds between the starts of two requests."""
        return max(self._configured, self._learned)

    def delay(self, now: float) -> float:
        """Return the seconds until a request may start; 0 means now."""
        return max(0.0, self._next - now, self._resume - now)

    def started(self, now: float) -> None:
        """Note that a request has started."""
        self._next = now + self.interval

    def answered(self) -> None:
        """Note an answer, and speed up a little."""
        self._learned *= FASTER
        if self._learned < PACE_GONE:
            self._learned = 0.0

    def limited(self, now: float, retry_after: float | None) -> None:
        """Note a 429.

        Requests in flight together are refused together, so the pace slows down once for all of them.
        """
        if retry_after is not None:
            self._resume = max(self._resume, now + retry_after)
        elif now - self._slowed >= self._learned or not self._learned:
            self._learned = min(max(SLOWER * self._learned, PACE_FIRST), PACE_MAX)
            self._slowed = now
            self._next = max(self._next, now + self._learned)
