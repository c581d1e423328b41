"""mistral (through its SDK) and openai against a real server on loopback.

Each test sends single requests and looks at the answer or the error.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, get_args

import pytest

from tests.fix_embedding_service import (
    EmbeddingService,
    Reset,
    Silent,
    Spoiled,
    Status,
    Support,
    Trickle,
)
from walvec.config.sections import EmbedderSettings
from walvec.embed.errors import (
    BadAnswer,
    BatchTooLarge,
    EmbeddingError,
    InputRefused,
    Misconfigured,
    RateLimited,
    ServiceUnavailable,
    Unauthorized,
)
from walvec.embed.protocol import Embedder, open_embedder
from walvec.embed.service import ask
from walvec_slots.errors import PreconditionFailed

SECRET = "sk-canary-key"
CANARY = "canary text of a row"
TEXTS = ["first text", "second text", "und ein dritter, äöü 👩\u200d👧"]

Open = Callable[..., Embedder]


@pytest.fixture(params=["mistral", "openai"])
def provider(request: pytest.FixtureRequest) -> str:
    """Return the provider; both keep the same promises."""
    return str(request.param)


@pytest.fixture
async def connect(
    provider: str, embedding_service: EmbeddingService, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Open]:
    """Return a function that opens an embedder on the service.

    All of them are closed at the end.
    """
    monkeypatch.setenv("EMBEDDING_KEY", SECRET)
    base_url = embedding_service.root if provider == "mistral" else embedding_service.url
    opened: list[Embedder] = []

    def open_it(**settings: Any) -> Embedder:
        given = {"model": "a-model", "dimensions": 8, "api_key_env": "EMBEDDING_KEY", "timeout": 5.0}
        given |= {"provider": provider, "base_url": base_url} | settings
        opened.append(open_embedder(EmbedderSettings.model_validate(given)))
        return opened[-1]

    yield open_it
    for embedder in opened:
        await embedder.aclose()


async def failure_of(embedder: Embedder, texts: list[str]) -> EmbeddingError:
    """Return the error that a request ends with."""
    with pytest.raises(EmbeddingError) as caught:
        await ask(embedder, texts)
    return caught.value


async def test_texts_become_vectors_in_their_order(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """Vectors, tokens, model and key are those of the service and the settings."""
    answer = await ask(connect(), TEXTS)
    (request,) = embedding_service.requests
    assert answer.vectors == [embedding_service.vector(text) for text in TEXTS]
    assert answer.tokens == embedding_service.count(TEXTS)
    assert request.inputs == tuple(TEXTS)
    assert (request.body["model"], request.authorization) == ("a-model", f"Bearer {SECRET}")


@pytest.mark.parametrize("how", ["order", "first index"])
async def test_answers_are_put_in_the_order_that_their_index_tells(
    connect: Open, embedding_service: EmbeddingService, how: Literal["order", "first index"]
) -> None:
    """The order is right even if the first index is left out because it is 0."""
    embedding_service.script(Spoiled(how))
    assert (await ask(connect(), TEXTS)).vectors == [embedding_service.vector(text) for text in TEXTS]


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "Some input is odd", InputRefused),
        (422, "Some input is odd", InputRefused),
        (400, "Too many inputs in request, split into more batches.", BatchTooLarge),
        (400, "Too many tokens overall, split into more batches.", BatchTooLarge),
        (413, "Payload Too Large", BatchTooLarge),
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Unauthorized),
        (404, "The model `a-model` does not exist", Misconfigured),
        (307, "Look elsewhere", Misconfigured),
        (429, "Requests rate limit exceeded", RateLimited),
        (500, "Internal", ServiceUnavailable),
        (502, "Bad gateway", ServiceUnavailable),
        (503, "Overloaded", ServiceUnavailable),
    ],
)
@pytest.mark.parametrize("nested", [True, False])
async def test_each_refusal_has_its_type(
    connect: Open,
    embedding_service: EmbeddingService,
    status: int,
    message: str,
    expected: type[EmbeddingError],
    *,
    nested: bool,
) -> None:
    """The error's class is right for OpenAI's and for Mistral's form of errors."""
    embedding_service.always = Status(status, message, nested=nested)
    assert type(await failure_of(connect(), TEXTS)) is expected


async def test_retry_after_comes_with_the_error(connect: Open, embedding_service: EmbeddingService) -> None:
    """The error holds the wait that the header asks for."""
    embedding_service.always = Status(429, retry_after="12")
    assert (await failure_of(connect(), TEXTS)).retry_after == 12.0


@pytest.mark.parametrize(
    "how",
    [how for how in get_args(Spoiled.__annotations__["how"]) if how not in ("order", "first index", "large")],
)
async def test_spoiled_answers_are_refused(
    connect: Open, embedding_service: EmbeddingService, how: Any
) -> None:
    """No wrong count, index, length or number is accepted as vectors."""
    embedding_service.always = Spoiled(how)
    assert type(await failure_of(connect(), TEXTS)) is BadAnswer


async def test_a_reset_connection_is_an_unavailable_service(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """The error names the root cause."""
    embedding_service.always = Reset()
    error = await failure_of(connect(), TEXTS)
    assert isinstance(error, ServiceUnavailable)
    assert (error.cause, "ConnectionResetError" in error.what) == ("network", True)


async def test_a_service_that_is_away_is_unavailable(connect: Open, provider: str) -> None:
    """The error says that no server listens at the address."""
    error = await failure_of(
        connect(base_url="http://127.0.0.1:9" + ("/v1" if provider == "openai" else "")), TEXTS
    )
    assert isinstance(error, ServiceUnavailable)
    assert "ConnectionRefusedError" in error.what


@pytest.mark.parametrize("fault", [Silent(), Trickle(seconds=0.02, size=1)])
async def test_silence_and_trickle_end_at_the_timeout(
    connect: Open, embedding_service: EmbeddingService, fault: Silent | Trickle
) -> None:
    """A byte now and then does not keep a request alive."""
    embedding_service.always = fault
    async with asyncio.timeout(3):
        error = await failure_of(connect(timeout=0.3), TEXTS)
    assert isinstance(error, ServiceUnavailable)
    assert error.cause == "timeout"


async def test_dimensions_are_asked_for_and_given(connect: Open, embedding_service: EmbeddingService) -> None:
    """A model of several sizes gives the configured one."""
    answer = await ask(connect(dimensions=5), TEXTS)
    assert {len(vector) for vector in answer.vectors} == {5}


async def test_a_model_of_one_size_is_not_asked_twice(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """A server that refuses `dimensions` is never sent it again."""
    embedding_service.own_size = "refuses"
    embedder = connect()
    for _ in range(2):
        assert (await ask(embedder, TEXTS)).vectors == [embedding_service.vector(text) for text in TEXTS]
    assert [request.status for request in embedding_service.requests] == [400, 200, 200]


async def test_another_size_than_configured_names_both(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """The operator learns which number to write."""
    embedding_service.own_size = "ignores"
    error = await failure_of(connect(dimensions=16), TEXTS)
    assert "8 dimensions, 16 are configured" in error.what
    assert error.hint is not None


@pytest.mark.parametrize("support", ["ignores", "refuses"])
async def test_servers_without_base64_send_numbers(
    embedding_service: EmbeddingService, support: Literal["ignores", "refuses"]
) -> None:
    """The vectors are the same, and base64 is refused only once."""
    embedding_service.base64 = support
    settings = EmbedderSettings(provider="openai", model="m", dimensions=8, base_url=embedding_service.url)
    embedder = open_embedder(settings)
    for _ in range(2):
        assert (await ask(embedder, TEXTS)).vectors == [embedding_service.vector(text) for text in TEXTS]
    assert len(embedding_service.requests) == (2 if support == "ignores" else 3)
    await embedder.aclose()


REFUSALS = [support for support in get_args(Support) if support not in ("honours", "ignores")]


@pytest.mark.parametrize("support", REFUSALS)
async def test_an_option_of_our_own_is_withdrawn_whatever_form_its_refusal_has(
    connect: Open, embedding_service: EmbeddingService, support: Support
) -> None:
    """One short text finds it out; afterwards no request is refused."""
    embedding_service.own_size = support
    embedder = connect()
    assert (await ask(embedder, TEXTS)).vectors == [embedding_service.vector(text) for text in TEXTS]
    assert len(embedding_service.requests) <= 8
    assert [request.inputs for request in embedding_service.requests].count(tuple(TEXTS)) == 2
    embedding_service.forget()
    assert (await ask(embedder, TEXTS)).vectors == [embedding_service.vector(text) for text in TEXTS]
    assert len(embedding_service.requests) == 1


@pytest.mark.parametrize("support", REFUSALS)
async def test_base64_is_withdrawn_alone(embedding_service: EmbeddingService, support: Support) -> None:
    """Dimensions are still requested, since the model has several."""
    embedding_service.base64 = support
    settings = EmbedderSettings(provider="openai", model="m", dimensions=5, base_url=embedding_service.url)
    embedder = open_embedder(settings)
    assert {len(vector) for vector in (await ask(embedder, TEXTS)).vectors} == {5}
    assert "encoding_format" not in embedding_service.requests[-1].body
    await embedder.aclose()


@pytest.mark.parametrize("support", REFUSALS)
async def test_a_service_that_stops_to_take_an_option_is_found_out(
    connect: Open, embedding_service: EmbeddingService, support: Support
) -> None:
    """After a few refusals the options are suspected: the model may be another one."""
    embedder = connect()
    await ask(embedder, TEXTS)
    embedding_service.own_size = support
    for _ in range(2):
        await failure_of(embedder, TEXTS)
    assert (await ask(embedder, TEXTS)).vectors == [embedding_service.vector(text) for text in TEXTS]


@pytest.mark.parametrize("fault", [Status(400, "no: dimensions, base64"), Status(500), Spoiled("no data")])
async def test_no_option_is_withdrawn_for_a_text(
    connect: Open, embedding_service: EmbeddingService, fault: Any
) -> None:
    """A refusal that quotes a text, or a crash, withdraws no option for the others."""
    embedding_service.refuse, embedding_service.poison = "POISON", fault
    embedder = connect(dimensions=5)
    await failure_of(embedder, [*TEXTS, "POISON"])
    await failure_of(embedder, ["POISON"])
    assert {len(vector) for vector in (await ask(embedder, TEXTS)).vectors} == {5}


async def test_a_service_that_refuses_everything_is_asked_about_options_ever_more_rarely(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """A wrong setting costs hardly more requests than without the trials."""
    embedding_service.always = Status(400)
    embedder = connect()
    for _ in range(100):
        await failure_of(embedder, TEXTS)
    assert len(embedding_service.requests) < 110


async def test_requests_that_are_refused_together_are_looked_into_once(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """Sixteen refused requests make one trial of the options."""
    embedding_service.always, embedding_service.latency = Status(500), 0.05
    embedder = connect()
    await asyncio.gather(*(failure_of(embedder, TEXTS) for _ in range(16)))
    assert len(embedding_service.requests) <= 20


async def test_mistral_embed_is_not_asked_for_dimensions(
    monkeypatch: pytest.MonkeyPatch, embedding_service: EmbeddingService
) -> None:
    """mistral-embed has one size and refuses the option."""
    monkeypatch.setenv("MISTRAL_API_KEY", SECRET)
    embedding_service.dimensions = 1024
    embedder = open_embedder(EmbedderSettings.model_validate({"base_url": embedding_service.root}))
    assert len((await ask(embedder, TEXTS)).vectors[0]) == 1024
    assert "output_dimension" not in embedding_service.requests[0].body
    await embedder.aclose()


async def test_a_server_without_keys_gets_none(
    monkeypatch: pytest.MonkeyPatch, embedding_service: EmbeddingService
) -> None:
    """vLLM, TEI and Ollama work without a key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    settings = EmbedderSettings.model_validate(
        {"provider": "openai", "model": "m", "dimensions": 8, "base_url": embedding_service.url}
    )
    embedder = open_embedder(settings)
    await ask(embedder, TEXTS)
    assert embedding_service.requests[0].authorization is None
    await embedder.aclose()


@pytest.mark.parametrize(
    "section",
    [
        {"provider": "mistral", "api_key_env": "NO_SUCH_KEY"},
        {"provider": "openai", "model": "m", "dimensions": 8, "api_key_env": "NO_SUCH_KEY"},
    ],
)
def test_a_missing_key_is_named(section: dict[str, Any]) -> None:
    """The error names the variable before anything is sent."""
    with pytest.raises(PreconditionFailed, match="NO_SUCH_KEY is not set") as caught:
        open_embedder(EmbedderSettings.model_validate(section))
    assert "export NO_SUCH_KEY" in str(caught.value.hint)


@pytest.mark.parametrize(
    "fault",
    [
        Status(400, f"bad input: {CANARY}"),
        Status(422, f"bad input: {CANARY}"),
        Status(401, f"Incorrect API key provided: {SECRET}"),
        Status(500, f"{CANARY} {SECRET}"),
        Spoiled("not json"),
        Spoiled("null"),
        Reset(),
    ],
)
async def test_neither_texts_nor_keys_are_repeated(
    connect: Open,
    embedding_service: EmbeddingService,
    fault: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither errors nor logs hold a text or the key, even if the SDK is to debug."""
    monkeypatch.setenv("MISTRAL_DEBUG", "1")
    caplog.set_level("INFO")
    embedding_service.always = fault
    embedder = connect()
    error = await failure_of(embedder, [CANARY])
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    said = f"{error} {error!r} {error.args} {embedder!r} {caplog.text} {capfd.readouterr()}"
    assert CANARY not in said
    assert SECRET not in said
