"""How long a failing process waits between its tries, and when it gives up; the waits are skipped."""

import asyncio
import selectors
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from walvec import supervise
from walvec.config.load import Config, load_config
from walvec_slots.errors import ConnectionLost

SETTINGS = """
[source]
dsn = "postgresql://nobody@127.0.0.1:1/nowhere"
[embedder]
provider = "hashing"
[http]
listen = ""
[log]
format = "json"
[[vectorizer]]
name = "blog"
table = "blog"
text = "body"
target = "blog_embedding"
"""


class Skipping(selectors.SelectSelector):
    """Waits for nothing: it notes how long it would have waited."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now."""
        if timeout:
            self.skipped += timeout
        return super().select(0 if timeout else timeout)


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time is what was waited for: what the machine takes to compute is none."""

    def __init__(self) -> None:
        self._skipping = Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Return the seconds of waiting since it was made."""
        return self._skipping.skipped


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Settings that are complete."""
    path = tmp_path / "walvec.toml"
    path.write_text(SETTINGS)
    return load_config(path)


class Attempts:
    """What comes of each try: it holds for some seconds, by its number, and fails."""

    def __init__(self, holds: Callable[[int], float]) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []
        self._holds = holds

    async def attach(self, *_: object, **__: object) -> NoReturn:
        """Hold, and fail as a connection that breaks."""
        loop = asyncio.get_running_loop()
        self.began.append(loop.time())
        await asyncio.sleep(self._holds(len(self.began)))
        self.ended.append(loop.time())
        raise ConnectionLost("the server is away")

    @property
    def waits(self) -> list[float]:
        """The seconds between each try's end and the next one's begin."""
        return [began - ended for ended, began in zip(self.ended, self.began[1:], strict=False)]


def run(
    config: Config, monkeypatch: pytest.MonkeyPatch, holds: Callable[[int], float], give_up_after: float
) -> Attempts:
    """Let the process try until it gives up, as it has to."""
    attempts = Attempts(holds)
    with asyncio.Runner(loop_factory=Clock) as runner:
        monkeypatch.setattr(supervise, "attach", attempts.attach)
        work: Any = supervise.supervise(
            config, once=False, wait=True, give_up_after=give_up_after, clock=runner.get_loop().time
        )
        with pytest.raises(ConnectionLost):
            runner.run(work)
    return attempts


def test_waits_double_up_to_half_a_minute(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait is 0.2 s, none is longer than 30 s, and each is shortened by chance to half at most."""
    attempts = run(config, monkeypatch, lambda _: 0.0, give_up_after=600.0)
    longest = [min(0.2 * 2**number, 30.0) for number in range(len(attempts.waits))]
    assert len(longest) > 20
    assert all(most / 2 <= wait <= most + 0.1 for wait, most in zip(attempts.waits, longest, strict=True)), (
        attempts.waits
    )


def test_long_health_begins_the_waits_again(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that held for more than a minute waits 0.2 s after its next failure, not half a minute."""
    attempts = run(config, monkeypatch, lambda number: 90.0 if number == 12 else 0.0, give_up_after=150.0)
    assert max(attempts.waits[:11]) > 10
    assert attempts.waits[11] <= 0.3
    assert max(attempts.waits[12:15]) <= 1.7


def test_long_health_begins_the_time_to_give_up_again(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only failures in a row count: those before a time of health are forgotten."""
    attempts = run(config, monkeypatch, lambda number: 90.0 if number == 12 else 0.0, give_up_after=150.0)
    healthy = attempts.ended[11]
    assert attempts.ended[10] - attempts.ended[0] > 25
    assert 150 < attempts.ended[-1] - healthy < 150 + 31


def test_short_health_changes_nothing(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds for seconds and fails again is failing all the while."""
    attempts = run(config, monkeypatch, lambda _: 5.0, give_up_after=300.0)
    assert attempts.ended[-1] - attempts.ended[0] < 300 + 36
    assert min(attempts.waits[8:]) >= 15.0
