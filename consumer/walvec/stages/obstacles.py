"""What keeps work in flight from getting done: a lock, the target, the service."""

from collections.abc import Callable
from time import monotonic

import psycopg

from walvec.database.waiting import held_up
from walvec.embed.dispatch import Dispatcher


class Obstacles:
    """Knows what is in the way, and says it in words that may be shown."""

    def __init__(self, dispatcher: Dispatcher, mask: Callable[[str], str]) -> None:
        """Ask `dispatcher` about its service; `mask` takes secrets out of what it said."""
        self._dispatcher = dispatcher
        self._mask = mask

        # The kind of error that the last attempt to write a batch ended with.
        self.write_failure: str | None = None

    def note_write(self, error: psycopg.Error | None) -> None:
        """Note how an attempt to write a batch ended; None: it is written."""
        if error is None:
            self.write_failure = None
            return
        self.write_failure = f"{type(error).__name__} (SQLSTATE {error.sqlstate})"
        if isinstance(error, psycopg.errors.LockNotAvailable) and (reason := held_up.lately()):
            self.write_failure += f": {reason}"

    def reason(self, seconds: float = 0.0) -> str | None:
        """Say what has been in the way for that long; None where nothing is known to be."""
        if reason := held_up.reason():
            return reason
        if self.write_failure:
            return f"the target does not take what is written: {self.write_failure}"
        failing = self._dispatcher.failure
        if failing is None or monotonic() - failing.since < seconds:
            return None
        advice = f" ({failing.hint})" if failing.hint else ""
        return self._mask(f"the embedding service fails: {failing.what}{advice}")
