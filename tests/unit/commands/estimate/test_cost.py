from typing import Any

import pytest

from walvec.commands.estimate.cost import Estimate, estimate, time_for, vector_size
from walvec.commands.estimate.sampling import SAMPLE_PAGES, SAMPLE_ROWS, TextSample, share_to_read
from walvec.config.load import EmbedderSettings


def embedder(**settings: Any) -> EmbedderSettings:
    """Settings of an embedder, small enough to reckon with."""
    given = {"provider": "hashing", "max_batch_inputs": 10, "max_batch_tokens": 1000, "concurrency": 4}
    return EmbedderSettings.model_validate({**given, **settings})


def estimated(sample: TextSample, *, price: float | None = None, **settings: Any) -> Estimate:
    """What a sample of table `blog` comes to, at 2 s a request."""
    return estimate("blog", "public.blog", sample, embedder(**settings), latency=2.0, price=price)


def sampled(chunks: int, *, tokens: int = 10, table_rows: int | None = None) -> TextSample:
    """A sample of rows of one chunk each, all to be embedded."""
    return TextSample(
        table_rows=chunks if table_rows is None else table_rows,
        rows=chunks,
        with_text=chunks,
        left_rows=chunks,
        characters=30 * chunks,
        left_characters=30 * chunks,
        tokens=[tokens] * chunks,
        left_tokens=[tokens] * chunks,
    )


def test_a_table_that_was_read_whole_is_counted() -> None:
    """Nothing is carried on."""
    found = estimated(sampled(95))
    assert (found.left.rows, found.left.chunks, found.left.tokens, found.requests) == (95, 95, 950, 10)


def test_a_sample_is_carried_on() -> None:
    """Every figure by the same factor."""
    found = estimated(sampled(100, table_rows=100_000))
    assert (found.left.rows, found.left.characters, found.left.tokens) == (100_000, 3_000_000, 1_000_000)
    assert found.requests == 10_000


@pytest.mark.parametrize(("tokens", "requests"), [(10, 10), (250, 25), (5000, 100)])
def test_requests_keep_both_limits(tokens: int, requests: int) -> None:
    """Texts in a request, tokens in a request; one that is longer goes alone."""
    assert estimated(sampled(100, tokens=tokens)).requests == requests


def test_what_the_target_holds_is_not_sent() -> None:
    """Bytes are of all vectors, requests of those that are left."""
    sample = sampled(100)
    sample.left_rows, sample.left_characters, sample.left_tokens = 5, 150, [10] * 5
    found = estimated(sample)
    assert (found.requests, found.left.chunks, found.vector_bytes) == (1, 5, 100 * (8 + 384 * 4))


def test_nothing_left_takes_nothing() -> None:
    """No request, no second, no money."""
    found = estimated(TextSample(table_rows=10, rows=10), price=1.0)
    assert (found.requests, found.seconds, found.cost) == (0, 0.0, 0.0)


def test_an_empty_table() -> None:
    """There is no factor."""
    assert estimated(TextSample()).all.rows == 0


def test_the_price_is_of_a_million_tokens() -> None:
    """Of what is left; without a price there is no cost."""
    assert estimated(sampled(100, table_rows=100_000), price=0.1).cost == 0.1
    assert estimated(sampled(100)).cost is None


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [({}, 50.0), ({"concurrency": 100}, 2.0), ({"requests_per_second": 0.5}, 200.0)],
)
def test_time_is_what_the_limits_allow(settings: dict[str, Any], seconds: float) -> None:
    """As many in flight as may be, or as many a second, whichever is slower."""
    assert time_for(100, embedder(**settings), 2.0) == seconds


@pytest.mark.parametrize(("dimensions", "size"), [(1024, 4104), (3072, 6152)])
def test_a_vector_past_2000_dimensions_is_halved(dimensions: int, size: int) -> None:
    """As halfvec."""
    assert vector_size(dimensions) == size


def test_a_small_table_is_read_whole() -> None:
    """Its pages are as few as a sample's."""
    assert share_to_read(None, SAMPLE_PAGES, 8192 * SAMPLE_PAGES) == 100.0


def test_of_a_large_table_a_share_is_read() -> None:
    """As many rows as a sample has, and enough pages."""
    rows, pages = 100_000_000, 2_000_000
    share = share_to_read(rows, pages, 8192 * pages)
    assert share * rows / 100 == pytest.approx(SAMPLE_ROWS)
    assert share * pages / 100 >= SAMPLE_PAGES


def test_of_long_rows_fewer_are_read() -> None:
    """Of rows of 1 MB no more than the bytes of a sample, or its least number of pages."""
    rows, pages = 1_000_000, 20_000
    assert share_to_read(rows, pages, rows * 2**20) == 100 * SAMPLE_PAGES / pages
