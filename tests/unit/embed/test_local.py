import asyncio
import math
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec.embed.hashing import embed_text
from walvec.embed.local import (
    LOCAL_DIMENSIONS,
    LOCAL_MODEL,
    WEIGHTS,
    LocalEmbedder,
    embed_locally,
    load_model,
    read_checked,
)
from walvec.embed.protocol import Vector, open_embedder
from walvec.embed.service import ask
from walvec_slots.errors import PreconditionFailed

SETTINGS = SimpleNamespace(provider="local", model=LOCAL_MODEL, dimensions=LOCAL_DIMENSIONS)

# A question, and a text that answers it in other words than a text that does not.
PARAPHRASES = [
    (
        "how do I get my money back",
        "Refunds are paid to the card that was charged.",
        "Back door left open: how the cat got out.",
    ),
    (
        "the physician prescribed pills",
        "A doctor gave the patient some medicine.",
        "The prescribed form is on the last page of the book.",
    ),
    (
        "automobile repair",
        "Our mechanics fix cars and trucks.",
        "Repair of the text: proofreading and spelling.",
    ),
    (
        "what is the weather like",
        "Rain is expected, with strong wind and low temperatures.",
        "What is it like to be a bat? An essay.",
    ),
]


def embedder() -> LocalEmbedder:
    """Open the embedder as the pipeline does."""
    opened = open_embedder(SETTINGS)
    assert isinstance(opened, LocalEmbedder)
    return opened


def vector(text: str) -> Vector:
    """Embed one text."""
    return embed_locally(load_model(), [text]).vectors[0]


def cosine(one: Vector, two: Vector) -> float:
    """Return the cosine of two vectors of unit length."""
    return sum(a * b for a, b in zip(one, two, strict=True))


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    """Read the model before the first test, whose time is not to hold it."""
    load_model()


@pytest.fixture
def without_cache() -> Iterator[None]:
    """Let the model be read as by a new process, before and after the test."""
    load_model.cache_clear()
    yield
    load_model.cache_clear()


@given(st.text())
def test_any_text_has_a_vector_of_unit_length(text: str) -> None:
    """Texts without a token have one too: pgvector has no cosine of a zero vector."""
    found = vector(text)
    assert len(found) == LOCAL_DIMENSIONS
    assert math.isclose(cosine(found, found), 1, rel_tol=1e-5)


def test_vectors_never_change() -> None:
    """A release that computes other vectors would have to embed everything again."""
    found = [round(value, 3) for value in vector("Write-ahead logs")[:4]]
    assert found == [0.046, -0.034, 0.036, -0.05]


@pytest.mark.usefixtures("without_cache")
def test_a_vector_is_the_same_whatever_is_asked_with_it() -> None:
    """Batches of any make-up and another reading of the model give the same bits."""
    texts = ["one text", "a longer text about write-ahead logs", "x"]
    together = embed_locally(load_model(), texts).vectors
    load_model.cache_clear()
    assert together == [vector(text) for text in texts]


@pytest.mark.parametrize(("question", "near", "far"), PARAPHRASES)
def test_a_paraphrase_is_nearer_than_shared_words(question: str, near: str, far: str) -> None:
    """A text that means the same is nearer; for hashing, the one that shares words."""
    asked = vector(question)
    assert cosine(asked, vector(near)) > cosine(asked, vector(far))
    hashed = [embed_text(text, 384) for text in (question, near, far)]
    assert cosine(hashed[0], hashed[1]) < cosine(hashed[0], hashed[2])


def test_a_text_of_many_tokens_is_their_mean() -> None:
    """A text longer than a slice of tokens points where its repeated sentence points."""
    sentence = "Vacuum reclaims storage. "
    assert cosine(vector(sentence * 3_000), vector(sentence * 2)) > 0.99


async def test_answers_are_what_the_pipeline_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer passes every check, counts tokens, and no socket is opened for it."""
    # The event loop has its own by now.
    monkeypatch.setattr(socket, "socket", None)
    found = await ask(embedder(), ["one text", "another"])
    assert [len(embedding) for embedding in found.vectors] == [LOCAL_DIMENSIONS] * 2
    assert found.tokens == 3


async def test_the_event_loop_goes_on_while_texts_are_embedded() -> None:
    """A long batch is embedded in a thread, so that standby status goes out meanwhile."""
    work = asyncio.create_task(embedder().embed(["words about write-ahead logs " * 100] * 500))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert len((await work).vectors) == 500
    assert turns > 3


def test_a_file_of_another_content_is_refused(tmp_path: Path) -> None:
    """What decides every vector is known byte by byte."""
    (tmp_path / "weights").mkdir()
    (tmp_path / WEIGHTS).write_bytes(b"other weights")
    with pytest.raises(PreconditionFailed, match="SHA-256"):
        read_checked(tmp_path, WEIGHTS)


def test_a_file_that_is_absent_is_refused(tmp_path: Path) -> None:
    """Another version of the package may have moved its files."""
    with pytest.raises(PreconditionFailed, match=r"0\.4\.0"):
        read_checked(tmp_path, WEIGHTS)


@pytest.mark.usefixtures("without_cache")
@pytest.mark.parametrize("package", ["wordllama", "tokenizers", "numpy", "safetensors"])
def test_without_the_extra_it_says_how_to_install_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is exit code 3 and holds the line to type."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PreconditionFailed) as refused:
        embedder()
    assert refused.value.hint == "run: pip install 'walvec[local]'"
