"""The sample configuration of compose/ is one that walvec takes."""

from pathlib import Path

from consumer.config import load

COMPOSE = Path(__file__).parents[2] / "compose"


def test_sample_configuration_is_valid() -> None:
    """The walvec.toml of the pair passes every check of the settings."""
    config = load(COMPOSE / "walvec/walvec.toml")
    assert [vectorizer.name for vectorizer in config.vectorizers] == ["blog"]
