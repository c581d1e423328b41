"""walvec at work: in a process, which a test may kill, or in a thread of this one, which is quicker.

process = Process(["run"], directory, env, IMPATIENT)
process.wait_for("stream.attached")
process.stop()
"""

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import structlog
from structlog.testing import LogCapture

from walvec import supervise
from walvec.config.load import Config
from walvec.database.silence import Patience
from walvec.stages.timing import Timing

# Seconds after which what a test waits for will not come any more.
TIMEOUT = 30.0

# What an idle process puts off takes no time that a test has to wait for.
IMPATIENT = Timing(
    look_interval=0.02,
    idle_interval=0.05,
    watch_interval=0.2,
    warn_after=0.5,
    patience=Patience(answer=2.0, question=2.0),
)

# At dozens of tables, looking five times a second would be most of the work.
SELDOM_LOOKING = replace(IMPATIENT, watch_interval=2.0)

_ENTRY = Path(__file__).with_name("entry.py")

T = TypeVar("T")

_numbers = itertools.count()


def until(condition: Callable[[], T | None], what: str = "", *, timeout: float = TIMEOUT) -> T:
    """Wait until the condition holds, and return what it gave; fail saying `what` was waited for."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}"
        time.sleep(0.005)
    return found


class Process:
    """A walvec in another process. Its log is a file of JSON lines."""

    def __init__(self, words: Sequence[str], directory: Path, env: Mapping[str, str], timing: Timing) -> None:
        self._log = directory / f"walvec-{next(_numbers)}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, _ENTRY, json.dumps(asdict(timing)), *words],
                cwd=directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def peak_memory(self) -> int:
        """The most bytes of memory it has held so far, by Linux's account."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    @property
    def code(self) -> int | None:
        """Its exit code once it has ended, -9 after SIGKILL; None while it runs."""
        return self._process.poll()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log so far. What is no JSON, an error's last words, comes as {"event": line}."""
        lines = self._log.read_text().splitlines(keepends=True)
        return [_parse(line) for line in lines if line.endswith("\n")]

    def logged(self, event: str, **fields: object) -> dict[str, Any] | None:
        """The first log line of this event with these fields, None if there is none yet."""
        wanted = {"event": event, **fields}
        return next((line for line in self.log if wanted.items() <= line.items()), None)

    def wait_for(self, event: str, *, timeout: float = TIMEOUT, **fields: object) -> dict[str, Any]:
        """Wait for a log line of this event with these fields, and return it."""

        def look() -> dict[str, Any] | None:
            ended = self.code is not None
            line = self.logged(event, **fields)
            assert line or not ended, f"ended with {self.code} before {event!r}: {self.log[-3:]}"
            return line

        return until(look, f"log line {event!r}", timeout=timeout)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait for its end and return its exit code."""
        return self._process.wait(timeout)

    def output(self) -> str:
        """Wait for its end and return what it printed."""
        return self._process.communicate(timeout=TIMEOUT)[0]

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.terminate()
        return self.wait()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def pause(self) -> None:
        """Send SIGSTOP: it holds what it has, and does nothing until `resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL, and wait until it is dead."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it if it still runs, and let go of its output."""
        if self.code is None:
            self.kill()
        if self._process.stdout:
            self._process.stdout.close()


def _parse(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError:
        return {"event": line.strip()}
    return parsed if isinstance(parsed, dict) else {"event": line.strip()}


class Run:
    """A `walvec run` in a thread of this process."""

    def __init__(self, config: Config, timing: Timing) -> None:
        self._config = config
        self._timing = timing
        self._thread = threading.Thread(target=self._main, name="walvec run", daemon=True)
        self._started = threading.Event()
        self._error: Exception | None = None

    def start(self) -> Self:
        """Begin; returns at once."""
        self._thread.start()
        until(lambda: self._started.is_set() or not self.alive, "walvec starts")
        return self

    @property
    def alive(self) -> bool:
        """Whether it still runs. Raises what it ended with, if that is an error."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop in order: what is in flight is finished and confirmed. Raises what it ended with."""
        self.begin_to_stop()
        self.join()

    def begin_to_stop(self) -> None:
        """The same, without waiting for the end."""
        self._tell(self._stop.set)

    def abandon(self) -> None:
        """End at once and finish nothing, as near to a crash as a thread gets."""
        self._tell(cast("asyncio.Task[None]", self._task).cancel)
        self.join()

    def join(self) -> None:
        """Wait until it ends by itself. Raises what it ended with."""
        self._thread.join(TIMEOUT)
        assert not self.alive, "walvec does not stop"

    def _tell(self, action: Callable[[], object]) -> None:
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop is closed: it has ended by itself meanwhile
                self._loop.call_soon_threadsafe(action)

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except asyncio.CancelledError:
            pass
        except Exception as error:
            self._error = error

    async def _run(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._stop = asyncio.Event()
        self._started.set()
        await supervise.supervise(
            self._config,
            once=False,
            wait=True,
            give_up_after=TIMEOUT,
            stop=self._stop,
            timing=self._timing,
        )


@contextmanager
def logging() -> Iterator[list[dict[str, Any]]]:
    """Collect what is logged in this process, as events with their key-values."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.stdlib.add_log_level, capture])
    yield cast("list[dict[str, Any]]", capture.entries)
    structlog.reset_defaults()
