"""What can go wrong between a text and its vector.

    WalvecError
    └── EmbeddingError
        ├── ServiceUnavailable   unreachable, silent or 5xx           wait and ask again
        ├── RateLimited          429                                  wait as asked, and slow down
        ├── Unauthorized         401, 402, 403, no credit             wait until the key is corrected
        ├── Misconfigured        404 and similar                      wait until the settings are corrected
        ├── BadAnswer            wrong count, order, length, NaN      wait and ask again
        ├── BatchTooLarge        more than one request may hold       split, and remember the limit
        └── InputRefused         400, 422: something in the texts     split, down to the text

`dispatch` does what the right-hand side says, and `blame` decides when a failure is a text's fault instead.
The status decides only where the service's words do not. Messages hold statuses, counts and error codes;
never a text, a key or the service's own words, which often quote both.
"""

from typing import Literal, Self

from walvec_slots.errors import WalvecError

Cause = Literal["network", "overload", "timeout", "crash"]


class EmbeddingError(WalvecError):
    """A request to the embedding service brought no vectors.

    `retry_after` is the wait in seconds that the service asked for, or None. `names` are the fields that it
    objects to, among those that walvec adds to a request by itself.
    """

    def __init__(
        self,
        what: str,
        *,
        hint: str | None = None,
        retry_after: float | None = None,
        names: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(what, hint=hint)
        self.retry_after = retry_after
        self.names = names

    def bare(self) -> Self:
        """Drop the traceback and context, which lead to the texts; return the error.

        Call it on an error that is kept.
        """
        self.__traceback__ = self.__context__ = None
        return self


class ServiceUnavailable(EmbeddingError):
    """The service could not be reached, or failed on its side.

    `cause` tells a network failure from a time-out, and both from the service's own 500: a single text may
    cause the last two.
    """

    def __init__(
        self,
        what: str,
        *,
        hint: str | None = None,
        retry_after: float | None = None,
        cause: Cause = "network",
        names: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(what, hint=hint, retry_after=retry_after, names=names)
        self.cause = cause


class RateLimited(EmbeddingError):
    """The service wants fewer requests."""


class Unauthorized(EmbeddingError):
    """The service does not accept the key, or the account behind it."""


class Misconfigured(EmbeddingError):
    """The service does not know the model or the path, or refuses any request."""


class BadAnswer(EmbeddingError):
    """The service's answer cannot be the vectors of the texts sent."""


class InputRefused(EmbeddingError):
    """The service refuses something in the texts sent."""


class BatchTooLarge(EmbeddingError):
    """The request holds more than the service accepts at once.

    `limit` and `counted` are numbers of inputs or tokens that the service named, None where it did not.
    """

    def __init__(
        self,
        what: str,
        *,
        of: Literal["inputs", "tokens"],
        limit: int | None = None,
        counted: int | None = None,
    ) -> None:
        super().__init__(what)
        self.of = of
        self.limit = limit
        self.counted = counted
