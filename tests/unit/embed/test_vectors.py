from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec.embed.errors import BadAnswer
from walvec.embed.vectors import as_vector, check_vectors, in_order


@given(st.permutations(range(6)))
def test_answers_are_put_back_in_order(order: list[int]) -> None:
    """Vectors are sorted by the index that each carries."""
    assert in_order([as_vector([position]) for position in order], order, 6) == [
        array("f", [position]) for position in range(6)
    ]


def test_answers_without_positions_are_in_order() -> None:
    """A server that leaves out the index keeps the order of the texts."""
    vectors = [as_vector([1.0]), as_vector([0.0])]
    assert in_order(vectors, [None, None], 2) == vectors


@pytest.mark.parametrize(
    "order", [[None, 1, 2], [1, None, 2], [2, 1, None]], ids=["first", "second", "last of all"]
)
def test_a_position_left_out_is_the_first(order: list[int | None]) -> None:
    """Gemini leaves out an index of 0, as protobuf does with defaults."""
    vectors = [as_vector([position or 0]) for position in order]
    assert in_order(vectors, order, 3) == [array("f", [position]) for position in range(3)]


def test_two_positions_left_out_prove_no_order() -> None:
    """With two indexes left out, either vector could be the first."""
    with pytest.raises(BadAnswer):
        in_order([as_vector([number]) for number in range(3)], [None, None, 2], 3)


def test_fewer_vectors_than_texts_are_refused_whatever_their_positions() -> None:
    """An empty list of vectors is refused like any other wrong count."""
    with pytest.raises(BadAnswer, match="0 embeddings came back for 2 texts"):
        in_order([], [], 2)


@pytest.mark.parametrize(
    "positions", [[0, 0], [1, 2], [0, None], [2, None], ["0", "1"], [0, 7], [-1, 0], [[], 1]]
)
def test_positions_that_are_not_those_of_the_texts_are_refused(positions: list[object]) -> None:
    """A vector at the wrong text would never be noticed, so the answer is refused."""
    with pytest.raises(BadAnswer):
        in_order([as_vector([1.0]), as_vector([0.0])], positions, 2)


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
    """Count and length have to be right, and numbers finite in float32."""
    with pytest.raises(BadAnswer):
        check_vectors([as_vector(numbers) for numbers in vectors], texts=2, dimensions=2)


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3)))
def test_all_finite_vectors_are_right(vectors: list[list[float]]) -> None:
    """The largest floats do not overflow the check."""
    check_vectors([as_vector(numbers) for numbers in vectors], texts=len(vectors), dimensions=3)


@pytest.mark.parametrize("numbers", [[None], ["1"], [[1.0]], [{}]])
def test_what_is_no_number_is_refused(numbers: list[float]) -> None:
    """JSON may hold anything where numbers are expected."""
    with pytest.raises(BadAnswer):
        as_vector(numbers)


@pytest.mark.parametrize(
    ("number", "fits"),
    [
        (65_504.0, True),
        (-65_504.0, True),
        (65_536.0, False),
        (-70_000.0, False),
        (1e30, False),
        (40_000, True),
    ],
)
def test_numbers_must_fit_the_column(number: float, *, fits: bool) -> None:
    """From 2,001 dimensions on a number has to fit halfvec; before, any float32 fits."""
    check_vectors([as_vector([*[0.5] * 1_999, number])], texts=1, dimensions=2_000)
    vector = as_vector([*[0.5] * 2_000, number])
    if fits:
        check_vectors([vector], texts=1, dimensions=2_001)
    else:
        with pytest.raises(BadAnswer, match="halfvec"):
            check_vectors([vector], texts=1, dimensions=2_001)
