"""The real `walvec` as another process, and what its log and its checkpoint say."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from walvec.commands.demo.screen import DemoFailed
from walvec.commands.demo.server import STATEMENTS, Client
from walvec.commands.demo.watchdog import SIDECAR_PID
from walvec.commands.demo.workplace import die_with_this
from walvec_slots.lsn import Lsn
from walvec_slots.plugin import PluginSetting

POLL_INTERVAL = 0.001  # seconds
# Seconds; walvec takes at most 30 to finish what is in flight.
STOP_LIMIT = 35.0

_CONFIG = """\
# Written by `walvec demo`.

[source]
dsn = {dsn}
slot = {name}
publication = {name}
plugin = "{plugin}"

[embedder]
provider = "{provider}"

[pipeline]
batch_rows = 40  # commits often, so that progress shows

[http]
listen = ""

[log]
format = "json"

[[vectorizer]]
name = "blog"
table = "public.blog"
text = "concat_ws(E'\\\\n\\\\n', title, contents)"
where = "published_time IS NOT NULL"
target = "public.blog_embedding"
chunk = {{ size = 2000, overlap = 200 }}
"""


@dataclass(frozen=True, slots=True)
class LogTally:
    """What walvec's log says of the batches it committed."""

    # That it compared with the target.
    rows: int
    # That it sent to the embedder.
    texts: int


class Sidecar:
    """One walvec in a folder: walvec.toml, walvec.log, walvec.pid.

    Unless it `outlives` this process it ends with it.
    """

    def __init__(self, folder: Path, *, outlives: bool) -> None:
        self.config = folder / "walvec.toml"
        self.log = folder / "walvec.log"
        self.program = find_walvec()
        self._pid_file = folder / SIDECAR_PID
        self._outlives = outlives
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0  # bytes of the log
        self._tally = LogTally(0, 0)

    def configure(self, dsn: str, name: str, *, provider: str, plugin: PluginSetting) -> None:
        """Write the settings, and an empty log; `name` is that of slot and publication."""
        text = _CONFIG.format(
            dsn=json.dumps(dsn), name=json.dumps(name), provider=provider, plugin=plugin
        ).encode()
        # The connection string may hold a password.
        for path, content in ((self.config, text), (self.log, b"")):
            path.touch(mode=0o600)
            path.write_bytes(content)

    def command(self, *words: str) -> None:
        """Run one of walvec's commands; what it prints goes where the demo's own lines go."""
        self._finish(words, subprocess.run(self._words(*words), check=False))

    def answer(self, *words: str) -> Any:
        """Run one of walvec's commands with --json, and return what it prints."""
        result = subprocess.run(self._words(*words, "--json"), stdout=subprocess.PIPE, check=False)
        self._finish(words, result)
        return json.loads(result.stdout)

    @staticmethod
    def _finish(words: tuple[str, ...], result: subprocess.CompletedProcess[Any]) -> None:
        if result.returncode:
            raise DemoFailed(f"walvec {words[0]} ended with exit code {result.returncode}")

    def start(self) -> int:
        """Start `walvec run` out of reach of the terminal's signals, and return its id."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words("run"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=None if self._outlives else die_with_this(signal.SIGKILL),
            )
        self._pid_file.write_text(f"{self._process.pid}\n", encoding="utf-8")
        return self._process.pid

    def _words(self, *words: str) -> list[str | Path]:
        return [self.program, "--config", self.config, *words]

    def kill(self) -> int:
        """End it as a crash would, by SIGKILL; return the id it had."""
        assert self._process is not None
        process, self._process = self._process, None
        process.kill()
        process.wait()
        return process.pid

    def stop(self) -> None:
        """Stop it in order. Raises DemoFailed where it did not end well."""
        assert self._process is not None
        code = self._terminate(self._process)
        if code:
            raise DemoFailed(f"walvec run ended with exit code {code}{self._last_words()}")

    def end(self) -> None:
        """End it if it still runs, however that goes."""
        if self._process is not None:
            self._terminate(self._process)
        self._pid_file.unlink(missing_ok=True)

    @staticmethod
    def _terminate(process: subprocess.Popen[bytes]) -> int:
        process.terminate()
        try:
            return process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def until(self, so: Callable[[], bool], what: str, limit: float = 30.0) -> None:
        """Ask once a millisecond until it is so.

        Raises DemoFailed where walvec ends first, or after `limit` seconds.
        """
        deadline = time.monotonic() + limit
        while not so():
            if self._process is not None and (code := self._process.poll()) is not None:
                end = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
                raise DemoFailed(f"walvec run {end}{self._last_words()}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what}: not within {limit:.0f} s{self._last_words()}")
            time.sleep(POLL_INTERVAL)

    def _last_words(self) -> str:
        """The end of a failure's line: the last warning, error or line of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in reversed(lines):
            if not line.startswith("{"):
                return f'; its log ends with "{line.strip()}"'
            event = json.loads(line)
            if event.get("level") in ("warning", "error"):
                said = event.get("what") or event.get("message") or event["event"]
                return f'; its log says "{said}"'
        return ""

    def tally(self) -> LogTally:
        """Read the log on, and count all batches so far."""
        for event in self._batches():
            self._tally = LogTally(
                self._tally.rows + event["rows"], self._tally.texts + event["texts_embedded"]
            )
        return self._tally

    def _batches(self) -> Iterator[dict[str, Any]]:
        """Read the log on; the lines of committed batches."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                if line.startswith(b"{") and (event := json.loads(line))["event"] == "batch.committed":
                    yield event


def wal_position(application: Client) -> Lsn:
    """Where the WAL ends. What commits after this was read has a commit LSN beyond it."""
    ((text,),) = application.execute(STATEMENTS["wal_position"]).fetchall()
    return Lsn.parse(text)


def saved_position(reader: Client) -> Lsn:
    """The saved LSN: everything before it is embedded."""
    ((text,),) = reader.execute(STATEMENTS["checkpoint"]).fetchall()
    return Lsn.parse(text)


def find_walvec() -> Path:
    """Return the program walvec that this process is, or that is beside it."""
    candidates = (sys.argv[0], str(Path(sys.executable).with_name("walvec")), shutil.which("walvec"))
    for path in (Path(each) for each in candidates if each):
        if path.name == "walvec" and path.is_file():
            return path.resolve()
    raise DemoFailed("The program walvec is not installed beside this Python", hint="run: pip install walvec")
