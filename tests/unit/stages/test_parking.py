from hypothesis import given
from hypothesis import strategies as st

from walvec.database.dead_letters import DeadLetter
from walvec.stages.parking import Retries, Share

ONE, TWO = DeadLetter("blog", ("1",), 1), DeadLetter("blog", ("2",), 1)


class TestRetries:
    """Each request is taken up once."""

    def test_what_is_new_is_taken_up(self) -> None:
        """New requests are taken up in the order given."""
        assert Retries().newly_asked([TWO, ONE]) == [TWO, ONE]

    def test_what_is_at_work_is_left_alone(self) -> None:
        """A row is asked for until its attempt has ended."""
        retries = Retries()
        retries.newly_asked([ONE])
        assert retries.newly_asked([ONE, TWO]) == [TWO]

    def test_a_row_may_be_asked_for_again_after_it_failed_again(self) -> None:
        """A request with more attempts is new, even if no look fell in between."""
        retries = Retries()
        retries.newly_asked([ONE])
        again = DeadLetter("blog", ("1",), 2)
        assert retries.newly_asked([again]) == [again]

    def test_a_row_may_be_asked_for_again_after_it_was_well(self) -> None:
        """A row that was well and is parked again has one attempt."""
        retries = Retries()
        retries.newly_asked([ONE])
        retries.newly_asked([])
        assert retries.newly_asked([ONE]) == [ONE]

    def test_knows_whether_anything_is_at_work(self) -> None:
        """`run --once` waits for rows that are at work."""
        retries = Retries()
        looks = [(retries.newly_asked(asked), retries.at_work)[1] for asked in ([], [ONE], [])]
        assert looks == [False, True, False]


class TestShare:
    """The share is that of parked rows among the last ones."""

    def test_few_rows_prove_nothing(self) -> None:
        """All of fewer rows than the window may be parked."""
        assert not Share(1000).with_batch(999, 999).over_half

    def test_half_is_not_over_half(self) -> None:
        """Half of the rows are not too many; one more is."""
        assert not Share(1000).with_batch(1000, 500).over_half
        assert Share(1000).with_batch(1000, 501).over_half

    def test_old_rows_do_not_count(self) -> None:
        """A million good rows before don't hide that nothing works any more."""
        share = Share(1000)
        for _ in range(1000):
            share = share.with_batch(1000, 0)
        for _ in range(501):
            assert not share.over_half
            share = share.with_batch(1, 1)
        for _ in range(499):
            share = share.with_batch(1, 1)
        assert share.over_half

    @given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1), st.integers(1, 50))
    def test_looks_at_the_window_and_no_batch_more_than_it_takes(
        self, batches: list[tuple[int, int]], window: int
    ) -> None:
        """Every batch that is kept is needed to fill the window."""
        share = Share(window)
        for rows, parked in batches:
            share = share.with_batch(rows, min(rows, parked))
        kept = [rows for rows, _ in share.batches]
        assert 0 not in kept
        assert sum(kept[1:]) < window
        assert sum(kept) >= min(window, sum(rows for rows, _ in batches))
