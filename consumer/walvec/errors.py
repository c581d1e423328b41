"""The consumer's errors; what they have in common is in walvec_slots.errors.

    WalvecError
    ├── ConfigInvalid       2  the settings don't fit
    ├── UsageInvalid        2  the command line asks for what cannot be done, or leaves open what is meant
    ├── Interrupted       130  told to stop before the work with an end was done
    ├── EvaluationFailed    1  an expression fails on a row
    ├── EpochEnded          1  a command or another process has begun a new epoch; attach again
    ├── LaneBehind          1  a vectorizer gave up its place in the stream and takes it up again
    ├── TooManyDeadLetters  1  most rows of a vectorizer are parked: not the rows are at fault
    ├── CatalogChanged      1  a table or the publication is no longer as it was bound; bind again
    ├── EmbeddingError         walvec.embed.errors
    └── …                      walvec_slots.errors: the stream's own

The number is the process's exit code when the error ends it.
"""

from walvec_slots.errors import PreconditionFailed, WalvecError

__all__ = [
    "CatalogChanged",
    "ConfigInvalid",
    "EpochEnded",
    "EvaluationFailed",
    "Interrupted",
    "LaneBehind",
    "TooManyDeadLetters",
    "Unreadable",
    "UsageInvalid",
    "WalvecError",
]


class ConfigInvalid(WalvecError):
    """A setting is unknown, missing or impossible; names the key and the fix, never the value."""

    exit_code = 2


class UsageInvalid(WalvecError):
    """An argument or option is impossible, or one is missing that would make the command safe."""

    exit_code = 2


class Interrupted(WalvecError):
    """A signal ended work that has an end before it was done; it can be gone on with."""

    exit_code = 130  # as shells have it for SIGINT

    def __init__(self) -> None:
        super().__init__(
            "stopped before everything was embedded", hint="`walvec run` goes on where this has stopped"
        )


class EvaluationFailed(WalvecError):
    """An expression fails on at least one of the rows it was evaluated on. Says the kind of failure, not the
    row.
    """

    def __init__(self, vectorizer: str, sqlstate: str, kind: str) -> None:
        super().__init__(
            f'vectorizer "{vectorizer}": text or where fails on a row: {kind} (SQLSTATE {sqlstate})',
            hint="let the expression bear that row: NULLIF, CASE, coalesce",
        )
        self.sqlstate = sqlstate
        self.kind = kind


class EpochEnded(WalvecError):
    """What was to be written is of an epoch, or of an attachment, that is no longer the present one."""

    def __init__(self, vectorizer: str) -> None:
        super().__init__(f'vectorizer "{vectorizer}": a new epoch has begun, or another process writes')


class LaneBehind(WalvecError):
    """A vectorizer that held up the others let its changes go and can go on: the slot sends them again."""

    def __init__(self, vectorizer: str) -> None:
        super().__init__(f'vectorizer "{vectorizer}": the changes it had let go of are read again')


class TooManyDeadLetters(WalvecError):
    """Most of a vectorizer's last rows cannot be embedded, and more are parked than is allowed."""

    def __init__(self, vectorizer: str, parked: int, error_class: str) -> None:
        super().__init__(
            f'vectorizer "{vectorizer}": {parked:,} rows are parked and over half of the last ones, most of '
            f"these by {error_class}; nothing more is passed over",
            hint=f"walvec dead-letter list {vectorizer} shows some; [pipeline] max_dead_letters allows more",
        )


class CatalogChanged(WalvecError):
    """A table, a publication or what a vectorizer makes of them has changed since it was bound."""


class Unreadable(PreconditionFailed):
    """The owner of a table lets walvec's role not read its rows, or not all of them; he may again."""
