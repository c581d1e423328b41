"""What differs between the chunks of rows and those that the target holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec.database.keys import Key
from walvec.stages.compare import Difference, compare
from walvec.vectorizer.target import Chunk

ROW: Key = ("1",)


def chunks(texts: str) -> list[Chunk]:
    """Return a chunk for each letter, which is its hash too."""
    return [Chunk(text, text.encode()) for text in texts]


def difference(texts: str, held: str | None) -> Difference:
    """Compare one row of these texts with what the target holds of it; None: it does not know the row."""
    known = {} if held is None else {ROW: {seq: text.encode() for seq, text in enumerate(held)}}
    return compare({ROW: chunks(texts)}, known)


@pytest.mark.parametrize(
    ("texts", "held", "changed"),
    [
        pytest.param("ab", None, [(0, "a", True), (1, "b", True)], id="a row that is not known"),
        pytest.param("ab", "ab", [], id="the same row"),
        pytest.param("ax", "ab", [(1, "x", True)], id="another text"),
        pytest.param("ba", "ab", [(0, "b", False), (1, "a", False)], id="texts that changed places"),
        pytest.param("aab", "ab", [(1, "a", False), (2, "b", False)], id="a text that comes twice"),
    ],
)
def test_a_chunk_is_new_only_where_the_row_does_not_have_it(
    texts: str, held: str | None, changed: list[tuple[int, str, bool]]
) -> None:
    """A chunk at its place stays; one that the row has elsewhere moves; only the rest is embedded."""
    found = difference(texts, held)
    assert [(row.chunk_seq, row.chunk.text, row.is_new) for row in found.chunks] == changed


@pytest.mark.parametrize(
    ("texts", "held", "surplus"),
    [("a", "ab", [(ROW, 1)]), ("ab", "ab", []), ("abc", "ab", []), ("a", None, []), ("", "ab", [])],
)
def test_surplus_is_what_a_shorter_row_leaves_over(
    texts: str, held: str | None, surplus: list[tuple[Key, int]]
) -> None:
    """A row without chunks goes as a whole, and leaves no surplus."""
    assert difference(texts, held).surplus == surplus


def test_a_row_without_chunks_is_gone() -> None:
    """It goes whether the target is known to hold it or not."""
    assert compare({("1",): [], ("2",): chunks("a"), ("3",): []}, {}).gone == [("1",), ("3",)]


def test_a_text_of_many_rows_is_embedded_once() -> None:
    """Every chunk counts as a text of the batch, and each new text is sent once."""
    found = compare({("1",): chunks("ab"), ("2",): chunks("bc")}, {("2",): {1: b"c"}})
    assert (found.texts, found.new_texts()) == (4, {b"a": "a", b"b": "b"})


@given(st.text("abc", max_size=6), st.none() | st.text("abc", min_size=1, max_size=6))
def test_writing_the_difference_gives_the_row(texts: str, held: str | None) -> None:
    """Whatever the target held, it holds the row's chunks once the difference is written."""
    found = difference(texts, held)
    target = dict(enumerate(held or ""))
    if found.gone:
        target.clear()
    target |= {row.chunk_seq: row.chunk.text for row in found.chunks}
    for _, count in found.surplus:
        target = {seq: text for seq, text in target.items() if seq < count}
    assert target == dict(enumerate(texts))
    assert all(row.is_new == (row.chunk.text not in (held or "")) for row in found.chunks)
