"""The commits that no checkpoint covers yet: bounded in number, and the newest is always there."""

from walvec.database.checkpoint import Landmark
from walvec.stages.landmark import Landmarks
from walvec_slots.lsn import Lsn


def test_many_commits_are_thinned_and_the_last_stays() -> None:
    """However far the checkpoint is behind, what is kept is bounded and still has the newest commit."""
    landmarks = Landmarks()
    for number in range(1, 50_001):
        landmarks.add(Landmark(number, Lsn(number)))
    assert len(landmarks._commits) < 5_000
    assert landmarks.covered_by(Lsn(50_000)) == Landmark(50_000, Lsn(50_000))


def test_thinned_commits_are_still_landmarks() -> None:
    """Any covered commit will do, so a thinned one gives way to its neighbour before it."""
    landmarks = Landmarks()
    for number in range(1, 6_001):
        landmarks.add(Landmark(number, Lsn(number)))
    covered = landmarks.covered_by(Lsn(3_000))
    assert covered is not None
    assert covered.xid == covered.end
    assert 2_900 < covered.end <= 3_000
