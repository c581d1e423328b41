import asyncio
from collections.abc import Sequence

import pytest

from walvec.embed import backoff
from walvec.embed.errors import EmbeddingError, ServiceUnavailable
from walvec.embed.protocol import Answer
from walvec.embed.recovery import PROBE, Recovery
from walvec.embed.service import Service
from walvec.embed.vectors import as_vector


class Fake:
    """An embedder that fails `failures` times, then answers."""

    name, model, dimensions = "fake", "fake", 1

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.requests: list[Sequence[str]] = []

    async def embed(self, texts: Sequence[str]) -> Answer:
        """Fail or answer, after other tasks have had a turn."""
        self.requests.append(list(texts))
        await asyncio.sleep(0)
        if len(self.requests) <= self.failures:
            raise ServiceUnavailable("away")
        return Answer([as_vector([1.0]) for _ in texts], None)

    async def aclose(self) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for milliseconds where a real process waits for seconds."""
    monkeypatch.setattr(backoff, "WAITS", dict.fromkeys(backoff.WAITS, (0.001, 0.002)))


@pytest.mark.parametrize("failures", [0, 100])
async def test_one_probe_serves_all_who_wait_for_one(failures: int) -> None:
    """All who ask while a probe is under way share the next one, whatever its outcome."""
    embedder = Fake(failures)
    recovery = Recovery(Service(embedder, 0.0))
    outcomes = await asyncio.gather(*(recovery.probe() for _ in range(8)))
    assert len({type(outcome) for outcome in outcomes}) == 1
    assert embedder.requests == [[PROBE]] * 2


async def test_a_probe_is_sent_again_for_a_later_caller() -> None:
    """An earlier outcome says nothing about a failure that came after it."""
    recovery = Recovery(Service(Fake(failures=1), 0.0))
    assert [await recovery.probe() is None for _ in range(2)] == [False, True]


async def test_an_outage_is_waited_for_by_one_probe_at_a_time() -> None:
    """Eight callers that wait send no more probes than one would."""
    embedder = Fake(failures=5)
    service = Service(embedder, 0.0)
    recovery = Recovery(service)
    error: EmbeddingError = ServiceUnavailable("away")
    await asyncio.gather(*(recovery.wait_after(error) for _ in range(8)))
    assert embedder.requests == [[PROBE]] * 6
    assert service.failure is None


async def test_the_service_is_failing_until_it_answers() -> None:
    """`failure` keeps the time of the first failure and the words of the latest."""
    service = Service(Fake(), 0.0)
    service.seconds_to_wait(ServiceUnavailable("first"), 1)
    first = service.failure
    service.seconds_to_wait(ServiceUnavailable("second"), 2)
    assert first is not None
    assert service.failure is not None
    assert (service.failure.what, service.failure.since) == ("second", first.since)
    await service.send(["text"])
    assert service.failure is None
