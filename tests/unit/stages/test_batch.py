"""What becomes of a batch where the target refuses some of its rows."""

from array import array

import pytest
from psycopg import errors

from walvec.database.keys import Key
from walvec.embed.dispatch import Refused
from walvec.errors import EvaluationFailed
from walvec.stages.batch import Batch, Parked
from walvec.stages.compare import compare
from walvec.stages.prepare import fill_batch
from walvec.vectorizer.target import Chunk

VECTOR = array("f", [1.0])
ONE: Key = ("1",)
TWO: Key = ("2",)
THREE: Key = ("3",)


def batch_of_three(*, keep_parked: bool = False) -> Batch:
    """Return a batch that writes one row, shortens another and deletes a third."""
    return Batch(
        gone=[THREE],
        surplus=[(TWO, 1)],
        chunks=[(ONE, 0, Chunk("one", b"1"), VECTOR), (TWO, 0, Chunk("two", b"2"), VECTOR)],
        settled=[ONE, TWO, THREE],
        keep_parked=keep_parked,
    )


def test_the_rows_that_a_batch_changes() -> None:
    """Each row is named once, whatever is done to it."""
    assert batch_of_three().keys() == [THREE, TWO, ONE]


def test_a_part_has_what_its_rows_need() -> None:
    """Neither a truncate nor the position comes with it: it is written to be rolled back."""
    part = batch_of_three().restricted_to([TWO])
    assert (part.gone, part.surplus, part.keys()) == ([], [(TWO, 1)], [TWO])


@pytest.mark.parametrize("keep_parked", [True, False])
def test_a_refused_row_is_parked_and_not_written(*, keep_parked: bool) -> None:
    """Its vectors go, unless those of its last good text are to be kept."""
    batch = batch_of_three(keep_parked=keep_parked).parking({TWO: errors.CheckViolation()})
    assert [row.key for row in batch.parked] == [TWO]
    assert [key for key, *_ in batch.chunks] == [ONE]
    assert (batch.surplus, batch.settled) == ([], [ONE, THREE])
    assert batch.gone == ([THREE] if keep_parked else [THREE, TWO])


def test_a_deletion_that_the_types_cannot_express_is_left_out() -> None:
    """Such a row is not there, so it is neither parked nor deleted, and it is settled."""
    batch = batch_of_three().parking({THREE: errors.InvalidTextRepresentation()})
    assert (batch.gone, batch.parked, batch.settled) == ([], [], [ONE, TWO, THREE])


def test_a_batch_stays_as_it_is() -> None:
    """What is written after a refusal is another batch, so a retry begins with the whole one."""
    batch = batch_of_three()
    batch.parking({ONE: errors.CheckViolation()})
    assert batch == batch_of_three()


@pytest.mark.parametrize("keep_parked", [True, False])
def test_a_row_with_a_refused_chunk_is_parked_as_a_whole(*, keep_parked: bool) -> None:
    """Half a row would be found by a search, and nothing would say that the rest is missing."""
    rows = {ONE: [Chunk("a", b"a"), Chunk("b", b"b")], TWO: [Chunk("a", b"a")]}
    refusal = Refused("InputRefused", "no", passes=False)
    failure = EvaluationFailed("blog", "22012", "DivisionByZero")
    batch = fill_batch(
        Batch(keep_parked=keep_parked),
        [ONE, TWO, THREE],
        compare(rows, {ONE: {0: b"x", 1: b"y", 2: b"z"}}),
        {b"a": VECTOR, b"b": refusal},
        {THREE: failure},
    )
    assert [(row.key, row.stage) for row in batch.parked] == [(THREE, "evaluate"), (ONE, "embed")]
    assert batch.chunks == [(TWO, 0, Chunk("a", b"a"), VECTOR)]
    assert (batch.surplus, batch.settled) == ([], [TWO])
    assert set(batch.gone) == (set() if keep_parked else {ONE, THREE})
    assert (batch.texts, batch.embedded, batch.refused) == (3, 2, 1)


def test_parked_rows_are_not_parked_twice() -> None:
    """The first reason stays, where the target refuses the deletion of a row's old vectors as well."""
    parked = Parked(ONE, "embed", "InputRefused", "no")
    batch = Batch(gone=[ONE], parked=[parked]).parking({ONE: errors.RaiseException()})
    assert batch.parked == [parked]
