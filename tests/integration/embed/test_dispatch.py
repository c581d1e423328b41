"""The dispatcher against everything a service can do, over real connections.

The result is the vectors, or a refusal that the text deserves.
"""

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.fix_embedding_service import EmbeddingService, Fault, Reset, Silent, Slow, Spoiled, Status, Trickle
from walvec.embed.backoff import WAITS, backoff
from walvec.embed.dispatch import Dispatcher, Refused
from walvec.embed.errors import EmbeddingError, Misconfigured, RateLimited, ServiceUnavailable, Unauthorized
from walvec.embed.protocol import open_embedder
from walvec.embed.recovery import PROBE
from walvec.embed.service import RetryWait

TEXTS = [f"text number {number}" for number in range(40)]

Open = Callable[..., Dispatcher]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for hundredths of a second where a real process waits for seconds."""
    monkeypatch.setattr("walvec.embed.backoff.WAITS", dict.fromkeys(WAITS, (0.01, 0.05)))


@pytest.fixture
async def connect(embedding_service: EmbeddingService) -> AsyncIterator[Open]:
    """Return a function that opens a Dispatcher on the service.

    All of them are closed at the end.
    """
    opened: list[Dispatcher] = []

    def open_it(
        on_retry: Callable[[RetryWait], None] | None = None,
        on_answer: Callable[[float, str, int], None] | None = None,
        **settings: Any,
    ) -> Dispatcher:
        section = SimpleNamespace(
            provider="openai",
            model="m",
            dimensions=8,
            base_url=embedding_service.url,
            api_key_env=None,
            max_batch_inputs=10,
            max_batch_tokens=1000,
            concurrency=4,
            requests_per_second=0.0,
            timeout=5.0,
        )
        vars(section).update(settings)
        opened.append(Dispatcher(open_embedder(section), section, on_retry=on_retry, on_answer=on_answer))
        return opened[-1]

    yield open_it
    for dispatcher in opened:
        await dispatcher.aclose()


async def test_many_texts_are_packed_sent_side_by_side_and_put_back_in_order(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """Each text is sent once, in requests and numbers of requests as large as allowed."""
    embedding_service.latency = 0.05
    texts = [f"text number {number}" for number in range(95)]
    dispatcher = connect()
    assert await dispatcher.embed(texts) == [embedding_service.vector(text) for text in texts]
    assert sorted(embedding_service.texts) == sorted(texts)
    assert max(len(request.inputs) for request in embedding_service.requests) == 10
    assert embedding_service.most_in_flight == 4
    assert (dispatcher.usage.requests, dispatcher.usage.texts, dispatcher.usage.failures) == (10, 95, 0)


async def test_each_request_is_told_with_its_outcome_and_texts(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """`on_answer` gets each request's outcome and texts once it has left the service."""
    embedding_service.script(Status(503))
    reported: list[tuple[str, int, int]] = []

    def answered(_: float, outcome: str, texts: int) -> None:
        reported.append((outcome, texts, dispatcher.in_flight))

    dispatcher = connect(on_answer=answered, concurrency=1)
    await dispatcher.embed(TEXTS[:15])
    assert reported == [("ServiceUnavailable", 10, 0), ("ok", 10, 0), ("ok", 5, 0)]


async def test_requests_in_flight_are_counted(connect: Open, embedding_service: EmbeddingService) -> None:
    """A request that is given up is no longer in flight."""
    embedding_service.always = Silent()
    dispatcher = connect()
    embedding = asyncio.create_task(dispatcher.embed(TEXTS))
    async with asyncio.timeout(5):
        while dispatcher.in_flight < 4:  # noqa: ASYNC110 - nothing announces a count
            await asyncio.sleep(0.005)
    embedding.cancel()
    await asyncio.wait([embedding])
    assert dispatcher.in_flight == 0


async def test_nothing_to_embed_asks_nothing(connect: Open, embedding_service: EmbeddingService) -> None:
    """An update that changes no text costs no request."""
    assert await connect().embed([]) == []
    assert embedding_service.requests == []


@pytest.mark.parametrize(
    "faults",
    [
        [Status(500)] * 2,
        [Status(502), Status(503), Status(504), Status(529)],
        [Reset(), Reset(), Reset()],
        [Status(429), Status(429)],
        [Status(401), Status(403), Status(402)],
        [Status(404)],
        [Spoiled("count"), Spoiled("dimensions")],
        [Spoiled("nan"), Spoiled("no data")],
        [Spoiled("nothing"), Spoiled("not json"), Spoiled("html")],
        [Spoiled("index"), Spoiled("order")],
        [Status(503), Reset(), Spoiled("null"), Slow(0.05), Status(429, retry_after="0")],
    ],
    ids=str,
)
async def test_faults_that_pass_are_waited_out(
    connect: Open, embedding_service: EmbeddingService, faults: list[Fault]
) -> None:
    """Each text has its vector in the end, in its place."""
    embedding_service.script(*faults)
    dispatcher = connect(concurrency=1)
    assert await dispatcher.embed(TEXTS) == [embedding_service.vector(text) for text in TEXTS]
    assert dispatcher.failure is None


@pytest.mark.parametrize("fault", [Silent(), Trickle(seconds=0.02)])
async def test_time_outs_are_waited_out(
    connect: Open, embedding_service: EmbeddingService, fault: Fault
) -> None:
    """A service that falls silent, or nearly, gets the request again."""
    embedding_service.script(fault)
    dispatcher = connect(timeout=0.2)
    assert await dispatcher.embed(TEXTS) == [embedding_service.vector(text) for text in TEXTS]


@pytest.mark.parametrize(
    "fault", [Status(503), Status(500), Reset(), Spoiled("nan"), Status(401), Status(400)]
)
async def test_an_outage_ends_without_a_text_lost_or_blamed(
    connect: Open, embedding_service: EmbeddingService, fault: Fault
) -> None:
    """Nothing is refused however long everything fails, and the work goes on after it."""
    embedding_service.always = fault
    waits: list[RetryWait] = []
    dispatcher = connect(waits.append)
    work = asyncio.create_task(dispatcher.embed(TEXTS))
    async with asyncio.timeout(10):
        while len(waits) < 60:  # noqa: ASYNC110 - simple enough
            await asyncio.sleep(0.01)
    assert dispatcher.failure is not None
    assert dispatcher.failure.what == waits[-1].error.what
    assert embedding_service.most_in_flight <= 4
    embedding_service.always = None
    async with asyncio.timeout(10):
        assert await work == [embedding_service.vector(text) for text in TEXTS]


@pytest.mark.parametrize("kind", ["seconds", "date"])
async def test_retry_after_is_obeyed_by_all(
    connect: Open, embedding_service: EmbeddingService, kind: str
) -> None:
    """No request starts meanwhile; those that were in flight already do not count."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    embedding_service.script(Status(429, retry_after="1" if kind == "seconds" else date))
    dispatcher = connect(concurrency=2)
    await dispatcher.embed(TEXTS[:1])
    first, second = embedding_service.requests
    assert second.at - first.at >= 0.9


async def test_requests_per_second_are_kept(connect: Open, embedding_service: EmbeddingService) -> None:
    """The rate holds however many requests may be in flight."""
    await connect(requests_per_second=20, max_batch_inputs=5).embed(TEXTS)
    times = [request.at for request in embedding_service.requests]
    assert len(times) == 8
    assert times[-1] - times[0] >= 0.3


async def test_a_service_that_limits_the_rate_is_drained(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """A pace is found at which most requests pass, though a 429 has no number."""
    embedding_service.per_second = 20
    texts = [f"text number {number}" for number in range(400)]
    assert await connect().embed(texts) == [embedding_service.vector(text) for text in texts]
    assert [request.status for request in embedding_service.requests].count(429) < 40


async def test_a_request_that_is_limited_again_and_again_starves_no_other(
    connect: Open, embedding_service: EmbeddingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a learned pace, turns are given in the order of asking."""
    monkeypatch.setattr("walvec.embed.pace.PACE_FIRST", 0.05)
    monkeypatch.setattr("walvec.embed.pace.PACE_MAX", 0.05)
    embedding_service.refuse, embedding_service.poison = "POISON", Status(429)
    dispatcher = connect()
    limited = asyncio.gather(*(dispatcher.embed([f"POISON {number}"]) for number in range(3)))
    for number in range(20):
        embedding_service.forget()
        await dispatcher.embed([f"another {number}"])
        assert len(embedding_service.requests) <= 6
    embedding_service.refuse = None
    await limited


@pytest.mark.parametrize("names_limits", [True, False])
async def test_too_many_inputs_are_split_and_the_limit_is_learned(
    connect: Open,
    embedding_service: EmbeddingService,
    *,
    names_limits: bool,
) -> None:
    """No request is refused the second time."""
    embedding_service.max_inputs, embedding_service.names_limits = 3, names_limits
    dispatcher = connect()
    assert await dispatcher.embed(TEXTS) == [embedding_service.vector(text) for text in TEXTS]
    embedding_service.forget()
    assert await dispatcher.embed(TEXTS) == [embedding_service.vector(text) for text in TEXTS]
    assert {request.status for request in embedding_service.requests} == {200}
    assert max(len(request.inputs) for request in embedding_service.requests) >= 2


@pytest.mark.parametrize("names_limits", [True, False])
async def test_too_many_tokens_are_split_and_the_limit_is_learned(
    connect: Open,
    embedding_service: EmbeddingService,
    *,
    names_limits: bool,
) -> None:
    """After a few rounds no request is refused, and requests are as large as allowed."""
    embedding_service.max_tokens, embedding_service.names_limits = 130, names_limits
    texts = [f"{number:03} " * 40 for number in range(40)]
    dispatcher = connect(max_batch_tokens=100_000)
    # Chance decides which answers come before which refusals, and teach first.
    for _ in range(6):
        embedding_service.forget()
        assert await dispatcher.embed(texts) == [embedding_service.vector(text) for text in texts]
        if all(request.status == 200 for request in embedding_service.requests):
            break
    assert {request.status for request in embedding_service.requests} == {200}
    assert max(len(request.inputs) for request in embedding_service.requests) >= 2


async def test_one_text_larger_than_any_request_is_refused_alone(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """The other texts are embedded, and the learned limits stay sensible."""
    embedding_service.max_tokens = 300
    texts = [*TEXTS[:5], "endless " * 1000, *TEXTS[5:]]
    dispatcher = connect(max_batch_tokens=300)
    results = await dispatcher.embed(texts)
    assert [position for position, result in enumerate(results) if isinstance(result, Refused)] == [5]
    embedding_service.forget()
    await dispatcher.embed(TEXTS)
    assert len(embedding_service.requests) <= 6


@pytest.mark.parametrize(
    "poison",
    [
        None,
        Status(422),
        Status(413, "Input validation error: `inputs` must have less than 512 tokens. Given: 604"),
        Status(500),
        Status(424),
        Status(403),
        Status(404),
        Spoiled("nan"),
        Spoiled("null"),
        Spoiled("no data"),
        Spoiled("count"),
    ],
    ids=str,
)
@pytest.mark.parametrize("poisoned", [[0], [7], [39], [3, 4, 20]], ids=str)
async def test_a_text_that_the_service_does_not_take_is_found_and_refused(
    connect: Open, embedding_service: EmbeddingService, poison: Fault | None, poisoned: list[int]
) -> None:
    """The text is found whatever its failure looks like, and all others get vectors."""
    embedding_service.refuse, embedding_service.poison = "POISON", poison
    texts = [f"{text} POISON" if number in poisoned else text for number, text in enumerate(TEXTS)]
    async with asyncio.timeout(20):
        results = await connect().embed(texts)
    for number, (text, result) in enumerate(zip(texts, results, strict=True)):
        if number in poisoned:
            assert isinstance(result, Refused)
            assert result.passes is not _is_refusal(poison)
            assert "text number" not in result.message
        else:
            assert result == embedding_service.vector(text)


def _is_refusal(fault: Fault | None) -> bool:
    """Whether the service refuses the text, rather than failing on it."""
    return fault is None or (isinstance(fault, Status) and fault.status in (413, 422))


@pytest.mark.parametrize("poison", [Status(500), Status(424), Status(400), Spoiled("null"), Spoiled("nan")])
async def test_a_failing_text_does_not_hold_up_the_others(
    connect: Open, embedding_service: EmbeddingService, monkeypatch: pytest.MonkeyPatch, poison: Fault
) -> None:
    """One text of 300 is found within about a second, with a real process's waits."""
    monkeypatch.setattr("walvec.embed.backoff.WAITS", WAITS)
    embedding_service.refuse, embedding_service.poison = "POISON", poison
    texts = [*(f"text number {number}" for number in range(300)), "POISON"]
    dispatcher = connect(max_batch_inputs=128, max_batch_tokens=16_000, concurrency=8)
    began = time.monotonic()
    results = await dispatcher.embed(texts)
    assert time.monotonic() - began < 3, "it takes less than one on an idle machine"
    assert [isinstance(result, Refused) for result in results] == [False] * 300 + [True]
    assert dispatcher.usage.requests < 50


@pytest.mark.parametrize(("dimensions", "fits"), [(8, True), (2_001, False)])
async def test_a_vector_that_the_column_cannot_hold_is_its_text_s_failure(
    connect: Open,
    embedding_service: EmbeddingService,
    dimensions: int,
    *,
    fits: bool,
) -> None:
    """A number too large for halfvec would make the target refuse the whole batch."""
    embedding_service.dimensions = dimensions
    embedding_service.refuse, embedding_service.poison = "POISON", Spoiled("large")
    *others, result = await connect(dimensions=dimensions).embed([*TEXTS[:10], "POISON"])
    assert others == [embedding_service.vector(text) for text in TEXTS[:10]]
    assert isinstance(result, Refused) is not fits
    if isinstance(result, Refused):
        assert "halfvec" in result.message


@pytest.mark.parametrize("poison", [Status(503), Status(429), Status(502), Reset()], ids=str)
async def test_neither_overload_nor_a_lost_connection_is_held_against_a_text(
    connect: Open, embedding_service: EmbeddingService, poison: Fault
) -> None:
    """The text waits, even though other texts are accepted meanwhile."""
    embedding_service.refuse, embedding_service.poison = "POISON", poison
    waits: list[RetryWait] = []
    dispatcher = connect(waits.append)
    work = asyncio.create_task(dispatcher.embed(["POISON"]))
    async with asyncio.timeout(20):
        while len(waits) < 8:
            await dispatcher.embed(["another"])
            await asyncio.sleep(0.01)
        assert not work.done()
        embedding_service.refuse = None
        assert await work == [embedding_service.vector("POISON")]


@pytest.mark.parametrize("refusal", [Status(400), Status(422), Status(413), Spoiled("null"), Status(500)])
async def test_a_service_that_refuses_everything_by_now_is_waited_for(
    connect: Open, embedding_service: EmbeddingService, refusal: Fault
) -> None:
    """Earlier answers prove nothing: a text is not refused while the probe fails too."""
    waits: list[RetryWait] = []
    dispatcher = connect(waits.append)
    await dispatcher.embed(TEXTS)
    embedding_service.always = refusal
    work = asyncio.create_task(dispatcher.embed(["lone"]))
    async with asyncio.timeout(10):
        while len(waits) < 10:  # noqa: ASYNC110 - simple enough
            await asyncio.sleep(0.01)
        assert not work.done()
        embedding_service.always = None
        assert await work == [embedding_service.vector("lone")]


async def test_strikes_are_taken_back_when_the_probe_fails_too(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """Only failures in a row count; an outage between them restarts the count."""
    fails, passes = Status(500), None
    dispatcher = connect(concurrency=1)
    await dispatcher.embed(["first"])
    for _ in range(3):
        embedding_service.script(fails, passes, fails, passes, fails, fails, passes)
    assert await dispatcher.embed(["lone"]) == [embedding_service.vector("lone")]


async def test_a_flaky_service_loses_few_texts_and_none_for_good(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """A text that is refused because every third request fails is embedded later."""
    dispatcher, left = connect(), [f"text number {number}" for number in range(300)]
    async with asyncio.timeout(20):
        for _ in range(5):
            embedding_service.script(*[None, None, Status(500)] * 200)
            results = await dispatcher.embed(left)
            refused = [result for result in results if isinstance(result, Refused)]
            assert all(result.passes for result in refused)
            assert len(refused) <= len(left) / 10
            left = [text for text, result in zip(left, results, strict=True) if isinstance(result, Refused)]
            if not left:
                return
    raise AssertionError(f"{len(left)} texts were never answered")


QUOTA = Status(429, "You exceeded your current quota, please check your plan and billing details.")


@pytest.mark.parametrize(
    "fault", [QUOTA, Status(401), Status(404), Status(500), Status(503), Spoiled("null")]
)
async def test_while_nothing_is_answered_one_asks_for_all(
    connect: Open, embedding_service: EmbeddingService, fault: Fault
) -> None:
    """Eight requests wait, and only probes are sent, so no text costs anything."""
    embedding_service.always = fault
    waits: list[RetryWait] = []
    dispatcher = connect(waits.append, concurrency=8, max_batch_inputs=5)
    work = asyncio.create_task(dispatcher.embed(TEXTS))
    async with asyncio.timeout(20):
        while len(waits) < 100:  # noqa: ASYNC110 - simple enough
            await asyncio.sleep(0.01)
        embedding_service.forget()
        while len(embedding_service.requests) < 10:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert {request.inputs for request in embedding_service.requests} == {(PROBE,)}
    assert embedding_service.in_flight <= 1
    embedding_service.always = None
    async with asyncio.timeout(10):
        assert await work == [embedding_service.vector(text) for text in TEXTS]


def test_what_no_waiting_fixes_is_asked_about_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a failure is retried some hundred times a day, not thousands."""
    monkeypatch.setattr("walvec.embed.backoff.WAITS", WAITS)
    for kind in (Unauthorized, Misconfigured):
        asked, seconds = 0, 0.0
        while seconds < 24 * 3600:
            asked += 1
            seconds += backoff(kind("no"), asked)
        assert asked < 1_000


async def test_what_no_waiting_fixes_says_so_at_once(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """The first log line and `failure` say what to do."""
    embedding_service.always = QUOTA
    dispatcher = connect()
    with capture_logs() as lines:
        work = asyncio.create_task(dispatcher.embed(TEXTS))
        async with asyncio.timeout(5):
            while not dispatcher.failure:  # noqa: ASYNC110 - simple enough
                await asyncio.sleep(0.01)
    assert "add credit" in lines[0]["hint"]
    assert (dispatcher.failure.what, dispatcher.failure.hint) == (lines[0]["what"], lines[0]["hint"])
    work.cancel()
    await asyncio.wait([work])


async def test_a_request_larger_than_a_minute_s_limit_is_split(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """The limit is learned; a single text above it is refused, and the others are not."""
    embedding_service.max_tokens_a_minute = 300
    texts = [f"{number:03} " * 40 for number in range(20)]
    dispatcher = connect(max_batch_tokens=100_000)
    async with asyncio.timeout(10):
        results = await dispatcher.embed([*texts[:10], "endless " * 1000, *texts[10:]])
    assert [number for number, result in enumerate(results) if isinstance(result, Refused)] == [10]
    assert isinstance(results[10], Refused)
    assert not results[10].passes
    async with asyncio.timeout(10):
        assert await dispatcher.embed(texts) == [embedding_service.vector(text) for text in texts]


@pytest.mark.parametrize(
    "words",
    [
        "Input validation error: `inputs` must have less than 512 tokens. Given: 604",
        "Payload Too Large",
        "Beyond what can be had: 604 of at most 512",
    ],
)
async def test_one_text_that_is_too_long_teaches_no_limit_for_requests(
    connect: Open, embedding_service: EmbeddingService, words: str
) -> None:
    """Whatever the words of a 413, later requests are as large as earlier ones."""
    embedding_service.refuse, embedding_service.poison = "POISON", Status(413, words)
    dispatcher = connect()
    results = await dispatcher.embed([*TEXTS[:25], "POISON", *TEXTS[25:]])
    assert [number for number, result in enumerate(results) if isinstance(result, Refused)] == [25]
    embedding_service.forget()
    await dispatcher.embed(TEXTS)
    assert [len(request.inputs) for request in embedding_service.requests] == [10] * 4


async def test_a_learned_limit_is_tried_higher_again(
    connect: Open, embedding_service: EmbeddingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that accepted less for a while gets full requests again."""
    monkeypatch.setattr("walvec.embed.pack.TRY_AFTER", 5)
    embedding_service.max_inputs = 2
    dispatcher = connect()
    await dispatcher.embed(TEXTS[:10])
    embedding_service.max_inputs = None
    embedding_service.forget()
    for _ in range(10):
        await dispatcher.embed(TEXTS)
    assert max(len(request.inputs) for request in embedding_service.requests) == 10


async def test_a_lone_text_is_refused_only_after_another_was_taken(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """A probe shows whether the text or the service is at fault."""
    embedding_service.refuse = "POISON"
    (result,) = await connect().embed(["POISON"])
    assert isinstance(result, Refused)
    assert set(embedding_service.texts[:-1]) == {"POISON"}
    assert embedding_service.texts[-1] == PROBE


async def test_texts_too_slow_together_are_sent_in_smaller_requests(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """A machine too slow for a full request is sent parts of it."""
    embedding_service.seconds_per_text = 0.05
    dispatcher = connect(timeout=0.3, concurrency=1)
    async with asyncio.timeout(20):
        assert await dispatcher.embed(TEXTS[:10]) == [embedding_service.vector(text) for text in TEXTS[:10]]


async def test_a_text_that_takes_all_the_time_there_is_does_not_hold_up_the_others(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """After one time-out alone, the text gets a refusal that may pass."""
    embedding_service.refuse, embedding_service.poison = "number 7", Silent()
    dispatcher = connect(timeout=0.3, concurrency=1)
    async with asyncio.timeout(10):
        results = await dispatcher.embed(TEXTS[:10])
    assert [number for number, result in enumerate(results) if isinstance(result, Refused)] == [7]
    assert isinstance(results[7], Refused)
    assert results[7].passes


async def test_one_with_much_to_do_does_not_hold_up_one_with_little(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """A backfill of thousands and a change of one row take turns at the service."""
    embedding_service.latency = 0.02
    dispatcher = connect(concurrency=2)
    much = asyncio.create_task(dispatcher.embed([f"much {number}" for number in range(1000)]))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await dispatcher.embed(["little"])
    assert time.monotonic() - started < 0.5
    assert not much.done()
    much.cancel()
    with pytest.raises(asyncio.CancelledError):
        await much


async def test_a_wait_can_be_cancelled_and_leaves_its_place_free(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """A stop does not sit out a Retry-After, and nobody waits for a cancelled request."""
    embedding_service.script(Slow(30.0))
    dispatcher = connect(concurrency=1)
    work = asyncio.create_task(dispatcher.embed(TEXTS[:1]))
    await asyncio.sleep(0.1)
    work.cancel()
    async with asyncio.timeout(2):
        with pytest.raises(asyncio.CancelledError):
            await work
        assert await dispatcher.embed(["next"]) == [embedding_service.vector("next")]


class _Watched(str):
    """A text that shows whether anything still refers to it."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [Status(503), Status(500)],
        [Status(500)] * 3,
        [Status(400), Status(413), Status(429)],
        [Reset(), Silent(), Spoiled("count")],
    ],
    ids=str,
)
async def test_no_text_is_left_to_the_garbage_collector(
    connect: Open, embedding_service: EmbeddingService, faults: list[Fault]
) -> None:
    """A request's texts are freed when it ends, without the garbage collector."""
    dispatcher = connect(timeout=0.2)
    await dispatcher.embed(["first"])
    embedding_service.script(*faults)
    texts = [_Watched(text) for text in TEXTS]
    held = [weakref.ref(text) for text in texts]
    gc.collect()
    gc.disable()
    try:
        await dispatcher.embed(texts)
        del texts
        assert not any(text() for text in held)
    finally:
        gc.enable()


async def test_waiting_is_said_once_in_a_while_and_without_texts(
    connect: Open, embedding_service: EmbeddingService
) -> None:
    """Many retries make one log line, with reason, duration and hint."""
    embedding_service.script(*[Status(401, "no such key: canary")] * 8)
    with capture_logs() as lines:
        await connect().embed(["canary"])
    (line,) = [line for line in lines if line["event"] == "embedder.waiting"]
    assert (line["provider"], line["error"], line["attempt"]) == ("openai", "Unauthorized", 1)
    assert "401" in line["what"]
    assert "api_key_env" in line["hint"]
    assert "canary" not in str(lines)


@pytest.mark.parametrize("attempt", [1, 2, 5, 50, 100_000])
def test_waits_grow_and_stay_within_bounds(monkeypatch: pytest.MonkeyPatch, attempt: int) -> None:
    """A wait is between half of the doubled wait and the whole of it."""
    monkeypatch.setattr("walvec.embed.backoff.WAITS", WAITS)
    first, longest = WAITS[ServiceUnavailable]
    full = min(longest, first * 2 ** min(attempt - 1, 60))
    assert full / 2 <= backoff(ServiceUnavailable("down"), attempt) <= full


def test_what_the_service_asked_for_is_the_least() -> None:
    """A wait is slightly longer than Retry-After, so that not all return at once."""
    assert 20 <= backoff(RateLimited("slowly", retry_after=20.0), 1) <= 22


def test_every_error_has_its_wait() -> None:
    """Each class of error has a wait that somebody chose for it."""
    assert set(WAITS) == set(EmbeddingError.__subclasses__())
