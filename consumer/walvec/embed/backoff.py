"""How long to wait before a failed request is sent again. Pure, except for jitter."""

from collections.abc import Mapping
from random import uniform

from walvec.embed.errors import (
    BadAnswer,
    BatchTooLarge,
    EmbeddingError,
    InputRefused,
    Misconfigured,
    RateLimited,
    ServiceUnavailable,
    Unauthorized,
)

# The first wait and the longest one, in seconds; the wait doubles from one to the other. Failures that
# somebody has to fix first are retried rarely: each request may count against the account.
WAITS: Mapping[type[EmbeddingError], tuple[float, float]] = {
    ServiceUnavailable: (0.5, 15.0),
    RateLimited: (0.5, 60.0),
    BadAnswer: (1.0, 60.0),
    # The next two are waited for only when the service refused the probe as well.
    InputRefused: (1.0, 60.0),
    BatchTooLarge: (1.0, 60.0),
    Unauthorized: (5.0, 300.0),
    Misconfigured: (5.0, 300.0),
}

# For an error class that a python embedder defines itself.
WAIT_ELSE = (1.0, 60.0)
# While the service works and only the texts are in doubt.
WAIT_SUSPECTED = (0.1, 1.0)


def backoff(error: EmbeddingError, attempt: int, *, suspected: bool = False) -> float:
    """Return the seconds to wait after `attempt` failures in a row.

    It is slightly more than the service asked for. If it asked for nothing, the wait doubles each time, with
    jitter. `suspected` means that the service works and only the texts are in doubt.
    """
    if error.retry_after is not None:
        return error.retry_after * _between(1.0, 1.05) + _between(0.0, 0.1)
    first, longest = WAIT_SUSPECTED if suspected else WAITS.get(type(error), WAIT_ELSE)
    return min(longest, first * 2.0 ** min(attempt - 1, 20)) * _between(0.5, 1.0)


def _between(low: float, high: float) -> float:
    return uniform(low, high)  # noqa: S311 - jitter is not a secret
