from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec.database.snapshot import Snapshot
from walvec.stages.visibility import Unseen

EPOCH = 1 << 32
FULL_IDS = st.integers(3, 1 << 40)


@pytest.mark.parametrize(
    ("text", "xmax", "in_progress"),
    [
        ("10:10:", 10, []),
        ("10:20:10,14", 20, [10, 14]),
        ("4294967300:4294967310:4294967301", 4294967310, [4294967301]),
    ],
)
def test_parse(text: str, xmax: int, in_progress: Iterable[int]) -> None:
    """A snapshot is read as pg_snapshot prints it."""
    assert Snapshot.parse(text) == Snapshot(xmax, frozenset(in_progress))


@given(
    xmax=FULL_IDS,
    distance=st.integers(-(1 << 31) + 1, (1 << 31) - 1),
    running=st.booleans(),
)
def test_sees_by_the_low_bits(xmax: int, distance: int, *, running: bool) -> None:
    """32 bits tell a transaction within half an epoch, on whichever side of a wrap it lies."""
    full = max(xmax + distance, 3)
    snapshot = Snapshot(xmax, frozenset([full] if running else []))
    assert snapshot.sees(full % EPOCH) == (full < xmax and not running)


@pytest.mark.parametrize(
    ("xmax", "xid", "seen"),
    [
        pytest.param(EPOCH + 5, EPOCH - 1, True, id="before the wrap, seen from behind it"),
        pytest.param(EPOCH + 5, 4, True, id="just behind the wrap"),
        pytest.param(EPOCH + 5, 5, False, id="the next one"),
        pytest.param(EPOCH - 2, 3, False, id="behind the wrap, from before it"),
        pytest.param(EPOCH - 2, EPOCH - 3, True, id="before it, from before it"),
        pytest.param(5 * EPOCH + 100, 99, True, id="in a later epoch"),
    ],
)
def test_epoch_wrap(xmax: int, xid: int, *, seen: bool) -> None:
    """The id that comes after 2**32 - 1 is small again, and newer."""
    assert Snapshot(xmax, frozenset()).sees(xid) == seen


class TestUnseen:
    """Unseen holds what was decoded and no snapshot has contained."""

    def test_remembers_until_seen(self) -> None:
        """A snapshot lets go of what it contains, and of nothing else."""
        unseen = Unseen([7])
        for xid in (8, 9, 12):
            unseen.note_decoded(xid)
        unseen.observe(Snapshot(12, frozenset([8])))
        assert sorted(unseen.current()) == [8, 12]

    def test_what_is_asked_for_does_not_change_later(self) -> None:
        """A read has to see what was decoded when it began."""
        unseen = Unseen()
        unseen.note_decoded(1)
        needed = unseen.current()
        unseen.note_decoded(2)
        assert set(needed) == {1}

    @given(
        st.lists(st.integers(3, 60)),
        st.lists(st.tuples(st.integers(3, 60), st.frozensets(st.integers(3, 60)))),
    )
    def test_never_forgets_what_no_snapshot_saw(
        self, decoded: list[int], snapshots: list[tuple[int, frozenset[int]]]
    ) -> None:
        """A transaction is remembered until one of the snapshots contains it."""
        unseen = Unseen(decoded)
        taken = [Snapshot(xmax, running) for xmax, running in snapshots]
        for snapshot in taken:
            unseen.observe(snapshot)
        assert set(unseen.current()) == {
            xid for xid in decoded if not any(snapshot.sees(xid) for snapshot in taken)
        }


EPOCH = 1 << 32


@pytest.mark.parametrize(
    ("snapshot", "oldest"),
    [("100:100:", 100), ("90:100:90,95", 90), (f"{EPOCH}:{EPOCH + 5}:{EPOCH}", EPOCH)],
)
def test_oldest_transaction_in_progress(snapshot: str, oldest: int) -> None:
    """Without one in progress it is the next that could be."""
    assert Snapshot.parse(snapshot).oldest == oldest


@pytest.mark.parametrize(
    ("snapshot", "open_xids", "past"),
    [
        ("100:100:", [], 100),
        ("90:100:90", [90], 100),
        ("100:100:", [100, 103], 104),
        (f"{EPOCH - 1}:{EPOCH}:{EPOCH - 1}", [EPOCH - 1, 2], EPOCH + 3),
    ],
)
def test_an_id_past_all_that_are_open(snapshot: str, open_xids: list[int], past: int) -> None:
    """An open transaction may be younger than all that have ended, and than the last epoch of ids."""
    assert Snapshot.parse(snapshot).id_past(open_xids) == past
