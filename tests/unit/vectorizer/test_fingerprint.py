from typing import Any

import pytest

from walvec.config.sections import EmbedderSettings, Vectorizer
from walvec.vectorizer.fingerprint import fingerprint_of

BLOG = {"name": "blog", "table": "public.blog", "text": "title", "target": "public.blog_embedding"}


def made_with(*, embedder: dict[str, Any] | None = None, **settings: Any) -> dict[str, str]:
    """Return the fingerprint of the plain settings, with some of them changed."""
    vectorizer = Vectorizer.model_validate(BLOG | settings)
    return fingerprint_of(vectorizer, EmbedderSettings.model_validate(embedder or {}))


@pytest.mark.parametrize("settings", [{"metric": "l2"}, {"index": "none"}])
def test_how_vectors_are_searched_is_no_part(settings: dict[str, Any]) -> None:
    """Vectors stay valid under another metric or index."""
    assert made_with(**settings) == made_with()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"where": "x"}, "where"),
        ({"chunk": "none"}, "chunk"),
        ({"chunk": {"overlap": 1}}, "chunk"),
        ({"embedder": {"dimensions": 3}}, "dimensions"),
    ],
)
def test_what_vectors_are_made_of_is_a_part(settings: dict[str, Any], key: str) -> None:
    """A change of expression, chunking or model shows under its own key."""
    plain, changed = made_with(), made_with(**settings)
    assert {name for name in plain if plain[name] != changed[name]} == {key}
