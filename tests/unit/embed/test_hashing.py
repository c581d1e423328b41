import asyncio
import math
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from walvec.embed.hashing import HashingEmbedder, embed_text
from walvec.embed.protocol import Vector


def cosine(one: Vector, two: Vector) -> float:
    """Return the cosine of two vectors of unit length."""
    return sum(a * b for a, b in zip(one, two, strict=True))


@given(st.text(), st.sampled_from([1, 2, 7, 384]))
@example("", 3)
@example("?!… ", 3)
@example("a b", 1)
def test_any_text_has_a_vector_of_unit_length(text: str, dimensions: int) -> None:
    """Blank texts have a vector too, because pgvector has no cosine of a zero vector."""
    vector = embed_text(text, dimensions)
    assert len(vector) == dimensions
    assert math.isclose(cosine(vector, vector), 1, rel_tol=1e-5)


def test_vectors_never_change() -> None:
    """A release that computed other vectors would have to embed everything again."""
    assert [round(value, 4) for value in embed_text("Write-ahead logs, décor and 日本語", 4)] == [
        0.5688,
        0.1709,
        -0.5772,
        0.5604,
    ]


@pytest.mark.parametrize(
    ("query", "near", "far"),
    [
        (
            "closing a file",
            "Files are closed when the file object is deleted.",
            "Integers are immutable numbers.",
        ),
        ("decorated functions", "A decorator wraps a function.", "A loop runs until its condition is false."),
        ("日本語の本", "この本は日本語です", "天気がいいですね"),
    ],
)
def test_texts_that_share_words_are_nearer(query: str, near: str, far: str) -> None:
    """Inflected words and scripts without spaces count as shared words."""
    asked = embed_text(query, 384)
    assert cosine(asked, embed_text(near, 384)) > cosine(asked, embed_text(far, 384)) + 0.1


def test_case_and_order_count_little_and_not_at_all() -> None:
    """Case does not change a vector, and the order of words changes it a little."""
    assert embed_text("Vacuum Full", 64) == embed_text("vacuum full", 64)
    assert 0.5 < cosine(embed_text("dog bites man", 384), embed_text("man bites dog", 384)) < 1


async def test_the_event_loop_breathes_while_texts_are_embedded() -> None:
    """The event loop runs on meanwhile, because standby status has to be sent."""
    embedder = HashingEmbedder("hashing", 384)
    text = "words about write-ahead logs and vacuum " * 8
    work = asyncio.create_task(embedder.embed([text] * 1_500))
    longest, last = 0.0, time.perf_counter()
    while not work.done():
        await asyncio.sleep(0)
        longest, last = max(longest, (now := time.perf_counter()) - last), now
    assert len((await work).vectors) == 1_500
    assert longest < 0.25
