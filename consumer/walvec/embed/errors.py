"""What can go wrong between a text and its vector.

    WalvecError
    └── EmbeddingError
        ├── ServiceUnavailable   unreachable, silent or 5xx           wait and ask again
        ├── RateLimited          429                                  wait as told, and slow down
        ├── Unauthorized         401, 402, 403, no credit             wait: the key must be put right
        ├── Misconfigured        404 and the like                     wait: the settings must be put right
        ├── BadAnswer            wrong count, order, length, NaN      wait and ask again
        ├── BatchTooLarge        more than one request may hold       split, and remember the limit
        └── InputRefused         400, 422: something in the texts     split, down to the text

`dispatch` does what the right-hand side says, and `blame` says when a failure is a text's instead. The
statuses are those of a service that says no more; its words decide first. Messages hold statuses, counts and
error codes; never a text, a key or the service's own words, which like to quote both.
"""

from typing import Literal, Self

from walvec_slots.errors import WalvecError

Cause = Literal["network", "overload", "timeout", "crash"]


class EmbeddingError(WalvecError):
    """A request to the embedding service brought no vectors.

    `retry_after` is the wait in seconds that the service asked for, None if it didn't. `names` are the
    fields of the request that it finds fault with, of those that walvec adds by itself.
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
        """Return it without the way it came, for whoever keeps it: that leads to the texts of the request."""
        self.__traceback__ = self.__context__ = None
        return self


class ServiceUnavailable(EmbeddingError):
    """The service could not be reached, or failed on its side.

    `cause` tells a network's failure from a time-out, and both from the service's own 500, since the last
    two may be the doing of a single text.
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
    """The service doesn't accept the key, or the account behind it."""


class Misconfigured(EmbeddingError):
    """The service doesn't know the model or the path, or refuses whatever it is sent."""


class BadAnswer(EmbeddingError):
    """The service answered with something that can't be the vectors of the texts sent."""


class InputRefused(EmbeddingError):
    """The service refuses something about the texts sent."""


class BatchTooLarge(EmbeddingError):
    """The request holds more than the service takes at once.

    `limit` and `counted` are numbers of inputs or tokens as the service named them, None where it didn't.
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
