import time
import unicodedata
from pydoc_data.topics import topics

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter

from walvec.stages.chunk import Chunker, InputHasher, input_hash, split

TEXT = (
    st.text(max_size=400)
    | st.text("ab .\n\r\t", max_size=400)
    | st.text("é\u0301👩\u200d👧 \u2029中", max_size=200)
)
SIZE = st.integers(1, 60)


def uncovered(text: str, chunks: list[str]) -> str:
    """What of the text lies in no chunk, if each chunk begins no later than where the ones before it end."""
    end = 0
    for chunk in chunks:
        end += len(text[end:]) - len(text[end:].lstrip())
        starts = [start for start in range(end + 1) if text.startswith(chunk, start)]
        assert starts, "a chunk is out of order, or something before it is missing"
        end = max(end, starts[-1] + len(chunk))
    return text[end:].strip()


@given(TEXT, SIZE)
@example("a" * 100, 7)
@example(" \x1c \x85 ", 1)
@example("x\x1c" * 30, 3)
def test_nothing_but_white_space_is_lost_and_the_order_is_kept(text: str, size: int) -> None:
    """Without overlap, the chunks put together are the text, but for white space."""
    assert "".join("".join(split(text, size, 0)).split()) == "".join(text.split())


@given(TEXT, SIZE, st.data())
def test_overlapping_chunks_cover_the_text(text: str, size: int, data: st.DataObject) -> None:
    """With overlap, every character that is not white space lies in some chunk."""
    assert uncovered(text, split(text, size, data.draw(st.integers(0, size - 1)))) == ""


@given(TEXT, SIZE, st.data())
def test_no_chunk_is_too_long_blank_or_untrimmed(text: str, size: int, data: st.DataObject) -> None:
    """A chunk has 1 to `size` characters and no white space at its ends."""
    chunks = split(text, size, data.draw(st.integers(0, size - 1)))
    assert all(0 < len(chunk) <= size and chunk == chunk.strip() for chunk in chunks)


@given(TEXT, SIZE)
def test_the_same_text_gives_the_same_chunks(text: str, size: int) -> None:
    """A Chunker that is used again and a new one agree."""
    chunker = Chunker(size, size // 5)
    assert chunker.split(text) == chunker.split(text) == split(text, size, size // 5)


@given(st.lists(st.sampled_from(["👩\u200d👩\u200d👧", "e\u0301", "🇩🇪", "a"]), max_size=60))
def test_grapheme_clusters_stay_whole(clusters: list[str]) -> None:
    """No cluster that fits is cut: a family, a letter with its accent, a flag."""
    chunks = split(" ".join(clusters), 8, 0)
    assert [part for chunk in chunks for part in chunk.split()] == clusters


def test_borders_are_paragraphs_then_sentences() -> None:
    """The largest unit that fits decides where to cut."""
    text = "First line of one.\n\nSecond paragraph. It has two sentences."
    assert split(text, 24, 0) == ["First line of one.", "Second paragraph.", "It has two sentences."]


def test_neighbours_share_words() -> None:
    """The overlap is made of whole units, within its limit."""
    assert split("alpha beta gamma delta", 10, 4) == ["alpha beta", "beta gamma", "delta"]


@given(st.text(max_size=50))
def test_a_text_that_fits_is_one_chunk(text: str) -> None:
    """A text that fits comes back trimmed; a blank one has no chunk."""
    assert split(text, 50, 10) == ([text.strip()] if text.strip() else [])


@given(st.text(max_size=50))
def test_without_chunking_a_text_is_itself(text: str) -> None:
    """With `chunk = "none"` a text stays as it is; a blank one has no chunk."""
    assert Chunker().split(text) == ([text] if text.strip() else [])


def test_windows_leave_no_trace() -> None:
    """Past the first window too, chunks end at borders, overlap, and cover everything."""
    text = " ".join(f"Sentence number {number} has some words." for number in range(6_000))
    chunks = split(text, 200, 60)
    starts = [text.index(chunk) for chunk in chunks]
    ends = [start + len(chunk) for start, chunk in zip(starts, chunks, strict=True)]
    assert all(chunk.startswith("Sentence") and chunk.endswith(".") for chunk in chunks)
    assert all(end - 60 <= start < end for start, end in zip(starts[1:], ends, strict=False))
    assert (starts[0], ends[-1]) == (0, len(text))


@pytest.mark.parametrize("size", [300, 1000, 2000])
def test_windows_cut_prose_as_the_whole_would_be_cut(size: int) -> None:
    """A long text that is cut window by window has the same borders."""
    whole = TextSplitter(size)
    assert [split(text, size, 0) for text in topics.values()] == [
        whole.chunks(text.strip()) for text in topics.values()
    ]


@pytest.mark.parametrize("blank", [" ", "\n", " \n", "\r\n\t", "\x1c"])
def test_long_white_space_is_a_border(blank: str) -> None:
    """A row may hold megabytes of nothing, which is passed over."""
    gap = blank * 200_000
    assert split(f"one{gap}two two{gap}three", 5, 3) == ["one", "two", "two", "three"]


@pytest.mark.parametrize(
    "text", ["a", "中", "👩\u200d👧", "a ", "一\n", " \n", "x" + " \n" * 90, "的一是不了人我在"]
)
def test_time_is_linear_in_the_text(text: str) -> None:
    """300,000 characters of the worst text take seconds: there may be rows of 50 MB."""
    started = time.perf_counter()
    chunks = split("start " + text * (300_000 // len(text)) + " end", 1000, 100)
    assert time.perf_counter() - started < 10
    assert all(len(chunk) <= 1000 for chunk in chunks)


@given(
    *[st.tuples(st.text(max_size=5), st.integers(1, 9_999), st.text(max_size=5))] * 2,
)
def test_only_equal_inputs_have_equal_hashes(one: tuple[str, int, str], two: tuple[str, int, str]) -> None:
    """Model, dimensions and text each count, and don't run together."""
    assert (input_hash(*one) == input_hash(*two)) == (one == two)


@given(st.text(max_size=3), st.integers(1, 99), st.text("0123456789:", max_size=4))
def test_inputs_do_not_run_together(model: str, dimensions: int, text: str) -> None:
    """What moves from one part to the next makes another hash."""
    assert input_hash(f"{model}:{dimensions}", 1, text) != input_hash(model, dimensions, f"1:{text}")


def test_a_hash_is_16_bytes_and_never_changes() -> None:
    """The target holds hashes for years: another value here would send every text again."""
    assert InputHasher("mistral-embed", 1024)("Ä text").hex() == "ee26ad7c416705b2444f8e7f48951b7a"


def test_composed_and_decomposed_letters_are_different_inputs() -> None:
    """Nothing is normalised: the hash covers the bytes that are sent."""
    hasher = InputHasher("m", 1)
    assert hasher("é") != hasher(unicodedata.normalize("NFD", "é"))
