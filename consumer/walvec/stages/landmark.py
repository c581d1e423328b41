"""Whether the WAL that the slot sends again is the WAL that it sent before.

A volume's snapshot takes a server back in time without a new timeline, and once that server has written past
the checkpoint again, LSNs prove nothing. So a checkpoint also remembers the last commit that it covers, its
*landmark*: a slot that begins before it has to send the same commit at the same place.

Pure: no clock, no socket, no database.
"""

from collections import deque

from walvec.database.checkpoint import Landmark
from walvec_slots.errors import SlotLost
from walvec_slots.lsn import Lsn

# Commits that no checkpoint covers yet, above which every other one is forgotten.
_MOST = 4_096


class Landmarks:
    """The commits that no saved checkpoint covers yet, oldest first.

    Their number is bounded.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._commits: deque[Landmark] = deque()

    def add(self, commit: Landmark) -> None:
        """Note a commit that comes after all others."""
        self._commits.append(commit)
        if len(self._commits) > _MOST:
            # The newest one stays. Any other commit serves as well as its neighbour.
            self._commits = deque(list(self._commits)[::-2][::-1])

    def covered_by(self, checkpoint: Lsn) -> Landmark | None:
        """Return the last commit that ends at or before the checkpoint, if any.

        The commits before it are forgotten: a checkpoint never goes back.
        """
        covered = None
        while self._commits and self._commits[0].end <= checkpoint:
            covered = self._commits.popleft()
        if covered:
            self._commits.appendleft(covered)
        return covered


class Replay:
    """Looks for the landmark in what the slot sends before the checkpoint."""

    def __init__(self, slot: str, landmark: Landmark | None, begin: Lsn) -> None:
        """Expect `landmark` in a stream from `begin`, unless it lies before that."""
        self._slot = slot
        self._expected = landmark if landmark and landmark.end > begin else None

    def note_passed(self, end: Lsn, xid: int | None = None) -> None:
        """Note a commit that ends at `end`, or a place between two commits.

        Such a place has no `xid`. Raises SlotLost once the landmark should have come and did not.
        """
        expected = self._expected
        if expected is None or end < expected.end:
            return
        if (xid, end) != expected:
            raise SlotLost(
                f'The source no longer has the last commit that was embedded for slot "{self._slot}", which '
                f"ended at {expected.end}. It went back to an earlier state and has had other changes since.",
                hint="run: walvec resync",
            )
        self._expected = None
