"""The user's own function, imported and called for real."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from walvec.embed.dispatch import Dispatcher, Refused
from walvec.embed.errors import BadAnswer, EmbeddingError, InputRefused, ServiceUnavailable
from walvec.embed.protocol import Embedder, open_embedder
from walvec.embed.service import ask
from walvec_slots.errors import PreconditionFailed

MODULE = """
import asyncio, threading
from walvec.embed.errors import InputRefused

def plain(texts):
    return [[float(len(text)), 1.0] for text in texts]

async def coroutine(texts):
    await asyncio.sleep(0)
    return ((len(text), 1) for text in texts)

async def endless(texts):
    await asyncio.sleep(60)

def thread(texts):
    return [[threading.current_thread() is threading.main_thread(), 1.0]]

def failing(texts):
    raise ValueError(texts[0])

def choosy(texts):
    if "no" in texts:
        raise InputRefused("not that")
    return plain(texts)

def fragile(texts):
    if "no" in texts:
        raise MemoryError(texts)
    return plain(texts)

def forgetful(texts):
    return [[float(len(text)), 1.0] for text in texts if text != "no"]

def holey(texts):
    return [None if text == "no" else [float(len(text)), 1.0] for text in texts]

def nothing(texts):
    return None

class Model:
    def encode(self, texts):
        return plain(texts)

model = Model()
number = 7
"""


def settings(function: str) -> Any:
    """Return the `[embedder]` section for a function of the module."""
    return SimpleNamespace(
        provider="python",
        model=f"own_embedder:{function}",
        dimensions=2,
        base_url=None,
        api_key_env=None,
        max_batch_inputs=10,
        max_batch_tokens=1000,
        concurrency=2,
        requests_per_second=0.0,
        timeout=0.2,
    )


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the module into the working directory, where `walvec run` finds it."""
    (tmp_path / "own_embedder.py").write_text(MODULE)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.delitem(__import__("sys").modules, "own_embedder", raising=False)
    monkeypatch.chdir(tmp_path)


def opened(function: str) -> Embedder:
    """Return an embedder that calls the module's function."""
    return open_embedder(settings(function))


@pytest.mark.parametrize("function", ["plain", "coroutine", "model.encode"])
async def test_functions_coroutines_and_methods_are_called(function: str) -> None:
    """Any sequence of numbers that they return becomes float32."""
    answer = await ask(opened(function), ["a", "bb"])
    assert [list(vector) for vector in answer.vectors] == [[1, 1], [2, 1]]


async def test_a_plain_function_runs_in_a_thread() -> None:
    """A slow function does not stop the stream."""
    assert list((await ask(opened("thread"), ["a"])).vectors[0]) == [0, 1]


@pytest.mark.parametrize(
    ("function", "expected"),
    [("failing", ServiceUnavailable), ("endless", ServiceUnavailable), ("nothing", BadAnswer)],
)
async def test_failures_are_the_service_s(function: str, expected: type[EmbeddingError]) -> None:
    """A failure is retried like a service's, and its own words are left out."""
    with pytest.raises(expected) as caught:
        await ask(opened(function), ["canary"])
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_a_function_may_refuse_a_text() -> None:
    """InputRefused from the function refuses only that text."""
    dispatcher = Dispatcher(opened("choosy"), settings("choosy"))
    results = await dispatcher.embed(["yes", "no", "well"])
    assert [isinstance(result, Refused) for result in results] == [False, True, False]
    assert results[1] == Refused(InputRefused.__name__, "not that", passes=False)


@pytest.mark.parametrize("function", ["fragile", "forgetful", "holey"])
async def test_a_text_that_a_function_fails_on_does_not_hold_up_the_others(function: str) -> None:
    """The text gets a refusal that may pass, however the function fails on it."""
    dispatcher = Dispatcher(opened(function), settings(function))
    async with asyncio.timeout(5):
        results = await dispatcher.embed(["yes", "no", "well"])
    assert [isinstance(result, Refused) and result.passes for result in results] == [False, True, False]


@pytest.mark.parametrize("function", ["absent", "number", "model.absent"])
def test_what_is_no_function_is_refused_at_once(function: str) -> None:
    """The hint gives the setting to write."""
    with pytest.raises(PreconditionFailed, match=f"own_embedder:{function}") as caught:
        opened(function)
    assert "module:function" in str(caught.value.hint)
