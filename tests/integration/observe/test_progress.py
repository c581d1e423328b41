"""What a terminal shows of `walvec run`, through a pseudo-terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from select import select
from time import monotonic

import pytest

from tests.fix_process import TIMEOUT
from tests.fix_sidecar import Sidecar

ROWS, COLUMNS = 50, 140
COMMAND = "import walvec.cli.app; walvec.cli.app.main()"

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\S+Z \[\w+ *\] ")

_CODE = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])")


class Screen:
    """The lines that a terminal shows, given the few codes that walvec uses."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = 0
        self._column = 0

    def feed(self, text: str) -> None:
        """Show more text."""
        position = 0
        while position < len(text):
            if code := _CODE.match(text, position):
                self._act(code[1], code[2])
                position = code.end()
                continue
            self._put(text[position])
            position += 1

    def _act(self, number: str, letter: str) -> None:
        match letter:
            case "A":
                self._row = max(self._row - int(number or 1), 0)
            case "K":
                assert number == "2", "only whole lines are erased"
                self.lines[self._row] = ""
            case "m" | "h" | "l":  # colours, the cursor shown or hidden
                pass
            case _:
                raise AssertionError(f"unexpected code {number}{letter}")

    def _put(self, character: str) -> None:
        match character:
            case "\r":
                self._column = 0
            case "\n":
                self._row += 1
                self.lines += [""] * (self._row - len(self.lines) + 1)
            case _:
                line = self.lines[self._row].ljust(self._column)
                self.lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
                self._column += 1

    @property
    def text(self) -> str:
        """All lines that are not empty."""
        return "\n".join(line.rstrip() for line in self.lines if line.strip())


class Terminal:
    """A pseudo-terminal with `walvec` on it, both stdout and stderr."""

    def __init__(self, sidecar: Sidecar, *words: str, term: str = "xterm") -> None:
        self._end, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        sidecar.path  # noqa: B018  written again
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words],
            cwd=sidecar.directory,
            env={**os.environ, "TERM": term, "NO_COLOR": "1", "COLUMNS": str(COLUMNS)},
            stdin=subprocess.DEVNULL,
            stdout=other,
            stderr=other,
        )
        os.close(other)
        self.raw = b""
        self.screen = Screen()

    def until(self, seen: Callable[[str], object]) -> None:
        """Watch until the screen is as wanted."""
        deadline = monotonic() + TIMEOUT
        while not seen(self.screen.text):
            assert self._watch(), f"ended before: {self.screen.text}"
            assert monotonic() < deadline, self.screen.text

    def close(self) -> int:
        """Watch until the end and return the exit code."""
        deadline = monotonic() + TIMEOUT
        while self._watch() and monotonic() < deadline:
            pass
        os.close(self._end)
        if self._process.poll() is None and monotonic() > deadline:
            self._process.kill()
        return self._process.wait(TIMEOUT)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def _watch(self) -> bool:
        """Read on for a moment; return False at the end."""
        if not select([self._end], [], [], 0.2)[0]:
            return True
        read = b""
        with suppress(OSError):  # Linux ends a terminal with EIO
            read = os.read(self._end, 4096)
        self.raw += read
        self.screen.feed(read.decode(errors="replace"))
        return bool(read)


@pytest.fixture
def slow(sidecar: Sidecar) -> Iterator[Sidecar]:
    """Yield a sidecar of 600 rows, whose embedding takes a second or two."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO blog SELECT i, 'body ' || i FROM generate_series(1, 600) AS i")
    sidecar.source.execute("ANALYZE blog")
    sidecar.settings["log"]["format"] = "auto"
    sidecar.settings["pipeline"]["batch_rows"] = 50
    sidecar.settings["embedder"]["concurrency"] = 1
    sidecar.service.latency = 0.15
    sidecar.follow()
    sidecar.setup()
    yield sidecar
    assert sidecar.actual() == sidecar.expected()


def test_a_bar_shows_the_backfill_and_is_gone_at_the_end(slow: Sidecar) -> None:
    """The bar has rows, rate and time left; at the end only the log remains."""
    terminal = Terminal(slow, "run", "--once")
    terminal.until(re.compile(r"blog rows +\S+ +[\d,]+ of about 600 rows  \d+ rows/s  0:00:\d\d left").search)
    assert terminal.close() == 0
    lines = terminal.screen.text.splitlines()
    assert [line for line in lines if not LOG_LINE.match(line)] == []
    assert sum("blog  50 rows, 50 embedded, 0 parked, " in line for line in lines) == 12


def test_the_last_phase_is_named(slow: Sidecar) -> None:
    """The bar names the phase that waits while the index cannot be built."""
    with slow.source.transaction():
        # CREATE INDEX CONCURRENTLY waits for transactions that hold a lock on its table.
        slow.source.execute("LOCK TABLE blog_embedding IN ROW EXCLUSIVE MODE")
        terminal = Terminal(slow, "run")
        terminal.until(lambda text: "building the vector index" in text)
    terminal.until(lambda text: "index.built" in text and "building the vector index" not in text)
    terminal.terminate()
    assert terminal.close() == 0


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_json_and_a_terminal_that_cannot_move_get_none(slow: Sidecar, log_format: str) -> None:
    """JSON lines stay JSON lines on a terminal too."""
    slow.settings["log"]["format"] = log_format
    terminal = Terminal(slow, "run", "--once", term="xterm" if log_format == "json" else "dumb")
    assert terminal.close() == 0
    assert b"\x1b" not in terminal.raw
    assert b"of about" not in terminal.raw
