"""How long to wait before a failed request is sent again. Pure, but for the jitter."""

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

# Seconds: the first wait and the longest, doubling from one to the other. What no waiting fixes is asked
# about rarely: somebody has to act first, and each question may count against the account.
WAITS: Mapping[type[EmbeddingError], tuple[float, float]] = {
    ServiceUnavailable: (0.5, 15.0),
    RateLimited: (0.5, 60.0),
    BadAnswer: (1.0, 60.0),
    InputRefused: (1.0, 60.0),  # these two come here when the probe was refused like the text
    BatchTooLarge: (1.0, 60.0),
    Unauthorized: (5.0, 300.0),
    Misconfigured: (5.0, 300.0),
}

WAIT_ELSE = (1.0, 60.0)  # for an error class of the user's own, from a python embedder
WAIT_SUSPECTED = (0.1, 1.0)  # while the service is well, and it is the texts that are in doubt


def backoff(error: EmbeddingError, attempt: int, *, suspected: bool = False) -> float:
    """Return the seconds to wait after `attempt` failures in a row.

    What the service asked for and a little more, otherwise doubling, with jitter. `suspected`: the service is
    well, and only the texts are in doubt.
    """
    if error.retry_after is not None:
        return error.retry_after * _between(1.0, 1.05) + _between(0.0, 0.1)
    first, longest = WAIT_SUSPECTED if suspected else WAITS.get(type(error), WAIT_ELSE)
    return min(longest, first * 2.0 ** min(attempt - 1, 20)) * _between(0.5, 1.0)


def _between(low: float, high: float) -> float:
    return uniform(low, high)  # noqa: S311 - jitter, no secret
