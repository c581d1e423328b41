from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.embed.errors import BadAnswer
from consumer.embed.vectors import as_vector, check, in_order


@given(st.permutations(range(6)))
def test_answers_are_put_back_in_order(order: list[int]) -> None:
    """By the index that each carries."""
    assert in_order([as_vector([position]) for position in order], order) == [
        array("f", [position]) for position in range(6)
    ]


def test_answers_without_positions_are_in_order() -> None:
    """A server that leaves index out means the order of the texts."""
    vectors = [as_vector([1.0]), as_vector([0.0])]
    assert in_order(vectors, [None, None]) == vectors


@pytest.mark.parametrize("positions", [[0, 0], [1, 2], [0, None], ["0", "1"], [0, 7], [-1, 0]])
def test_positions_that_are_not_those_of_the_texts_are_refused(positions: list[object]) -> None:
    """A vector at the wrong text would never be noticed."""
    with pytest.raises(BadAnswer):
        in_order([as_vector([1.0]), as_vector([0.0])], positions)


@pytest.mark.parametrize(
    "vectors",
    [
        [],
        [[1.0, 2.0]],
        [[1.0, 2.0]] * 3,
        [[1.0, 2.0], []],
        [[1.0, 2.0], [1.0]],
        [[1.0, 2.0], [1.0, float("nan")]],
        [[1.0, 2.0], [float("inf"), 1.0]],
        [[1.0, 2.0], [float("inf"), float("-inf")]],
        [[1.0, 2.0], [1e39, 0.0]],
    ],
)
def test_what_cannot_be_the_vectors_is_refused(vectors: list[list[float]]) -> None:
    """Count, length, and finite in float32."""
    with pytest.raises(BadAnswer):
        check([as_vector(each) for each in vectors], texts=2, dimensions=2)


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3)))
def test_all_finite_vectors_are_right(vectors: list[list[float]]) -> None:
    """The largest floats do not overflow the check."""
    check([as_vector(each) for each in vectors], texts=len(vectors), dimensions=3)


@pytest.mark.parametrize("numbers", [[None], ["1"], [[1.0]], [{}]])
def test_what_is_no_number_is_refused(numbers: list[float]) -> None:
    """JSON may hold anything."""
    with pytest.raises(BadAnswer):
        as_vector(numbers)
