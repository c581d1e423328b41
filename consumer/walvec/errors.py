"""The errors of walvec; what they share is in walvec_slots.errors.

    WalvecError
    ├── ConfigInvalid       2  a setting is unknown, missing or impossible
    ├── UsageInvalid        2  the command line asks for something impossible or ambiguous
    ├── Interrupted       130  a signal came before the work was done
    ├── EvaluationFailed    1  an expression fails on a row
    ├── EpochEnded          1  a command or another process has begun a new epoch; attach again
    ├── LaneBehind          1  a vectorizer dropped its changes and reads them again
    ├── TooManyDeadLetters  1  most rows of a vectorizer are parked, so the rows are not at fault
    ├── CatalogChanged      1  a table or the publication is not as it was bound; bind again
    ├── Unreadable          3  walvec's role may not read a table, or not all of its rows
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
    """A setting is unknown, missing or impossible.

    The message names the key and the fix, never the value.
    """

    exit_code = 2


class UsageInvalid(WalvecError):
    """An argument or option is impossible, or a required one is missing."""

    exit_code = 2


class Interrupted(WalvecError):
    """A signal came before the work was done; it can be continued."""

    # As shells have it for SIGINT.
    exit_code = 130

    def __init__(self) -> None:
        super().__init__(
            "stopped before everything was embedded", hint="`walvec run` goes on where this has stopped"
        )


class EvaluationFailed(WalvecError):
    """An expression fails on at least one of the rows that it was evaluated on.

    The message has the kind of failure, not the row.
    """

    def __init__(self, vectorizer: str, sqlstate: str, kind: str) -> None:
        super().__init__(
            f'vectorizer "{vectorizer}": text or where fails on a row: {kind} (SQLSTATE {sqlstate})',
            hint="make the expression tolerate it, with NULLIF, CASE or coalesce",
        )
        self.sqlstate = sqlstate
        self.kind = kind


class EpochEnded(WalvecError):
    """What was to be written is of an earlier epoch, or of an earlier attachment."""

    def __init__(self, vectorizer: str) -> None:
        super().__init__(f'vectorizer "{vectorizer}": a new epoch has begun, or another process writes')


class LaneBehind(WalvecError):
    """A vectorizer that held up the others dropped its changes, and can go on.

    The slot sends them again.
    """

    def __init__(self, vectorizer: str) -> None:
        super().__init__(f'vectorizer "{vectorizer}": the changes that it dropped are read again')


class TooManyDeadLetters(WalvecError):
    """Most of a vectorizer's last rows are parked, and more than is allowed."""

    def __init__(self, vectorizer: str, parked: int, error_class: str) -> None:
        super().__init__(
            f'vectorizer "{vectorizer}": {parked:,} rows are parked, among them over half of the last ones, '
            f"most of these for {error_class}",
            hint=f"run: walvec dead-letter list {vectorizer}; [pipeline] max_dead_letters allows more",
        )


class CatalogChanged(WalvecError):
    """A table or publication, or what it is bound to, has changed since then."""


class Unreadable(PreconditionFailed):
    """walvec's role may not read a table's rows, or not all of them.

    The table's owner decides that, and may change it at any time.
    """
