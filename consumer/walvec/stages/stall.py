"""How long the checkpoint has waited for work in flight, and why.

Work that takes its time has no reason. A reason is given where something is known to fail, or where nothing
at all gets done. `walvec status` shows it.

Pure: times are handed in, as seconds of one clock.
"""

from collections.abc import Callable
from dataclasses import dataclass

from walvec.stages.timing import TIMING, Timing

WaitsFor = Callable[[float], str | None]


@dataclass(frozen=True, slots=True)
class Mark:
    """What the target is to say of the checkpoint's waiting."""

    # Seconds that it has waited; None: it does not wait.
    seconds: float | None

    waits_for: str | None


_NO_STALL = Mark(None, None)


class Stall:
    """Watches how the work goes."""

    def __init__(self, waits_for: WaitsFor, timing: Timing = TIMING) -> None:
        """Begin without work.

        `waits_for` says what has kept work from getting done for at least as many seconds as it is given.
        """
        self._waits_for = waits_for
        self._timing = timing

        # Since when the checkpoint has waited for work in flight.
        self._since: float | None = None

        # When a batch was finished last, or nothing was in flight.
        self._finished = 0.0

        # Whether the target says that there is a stall, and why.
        self._saved: tuple[bool, str | None] = (False, None)

    def checkpoint_moved(self) -> None:
        """Note that a checkpoint was committed, which takes back what was saved."""
        self._since, self._saved = None, (False, None)

    def batch_finished(self, now: float) -> None:
        """Note that a batch was committed."""
        self._finished = now

    def next_mark(self, now: float, *, idle: bool) -> Mark | None:
        """Return what to save; None where the target says so already.

        `idle`: nothing is in flight.
        """
        if idle:
            self._since, self._finished = None, now
        elif self._since is None:
            self._since, self._finished = now, max(self._finished, now)
        waited = now - self._since if self._since is not None else 0.0
        mark = Mark(waited, self._reason(now)) if waited > self._timing.stall_after else _NO_STALL
        wanted = (mark.seconds is not None, mark.waits_for)
        if wanted == self._saved:
            return None
        self._saved = wanted
        return mark

    def _reason(self, now: float) -> str | None:
        reason, silent_after = self._waits_for(self._timing.stall_after), self._timing.silent_after
        if reason is None and now - self._finished > silent_after:
            return f"nothing has been finished for over {silent_after:.0f} s"
        return reason
