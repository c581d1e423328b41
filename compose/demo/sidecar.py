"""The real `walvec`, as a process of its own, and what its log and its checkpoint say."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compose.demo.screen import DemoFailed
from compose.demo.server import Connection
from walvec_slots.lsn import Lsn

POLL_INTERVAL = 0.001  # seconds
STOP_LIMIT = 35.0  # seconds; walvec takes at most 30 to finish what is in flight
WALVEC = Path(sys.executable).with_name("walvec")

_CONFIG = """\
# Written by `make demo`.

[source]
dsn = {dsn}
slot = {name}
publication = {name}

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
class Tally:
    """What walvec's log says of the batches it committed."""

    rows: int  # that it compared with the target
    texts: int  # that it sent to the embedder


class Sidecar:
    """One walvec in a directory: walvec.toml, walvec.log, walvec.pid."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "walvec.toml"
        self.log = directory / "walvec.log"
        self.pid_file = directory / "walvec.pid"
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0  # bytes of the log
        self._tally = Tally(0, 0)

    def configure(self, dsn: str, name: str, provider: str) -> None:
        """Write the settings; `name` is that of slot and publication. The log begins anew."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.touch(mode=0o600)  # the connection string may hold a password
        text = _CONFIG.format(dsn=json.dumps(dsn), name=json.dumps(name), provider=provider)
        self.config.write_text(text, encoding="utf-8")
        self.log.write_bytes(b"")

    def command(self, *words: str) -> None:
        """Run one of walvec's commands; what it prints goes where the demo's own lines go."""
        result = subprocess.run([WALVEC, *words], env=self._environment(), check=False)
        if result.returncode:
            raise DemoFailed(f"walvec {words[0]} ended with exit code {result.returncode}")

    def start(self) -> int:
        """Start `walvec run` in a session of its own, so that it outlives the terminal; return its id."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [WALVEC, "run"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        self.pid_file.write_text(f"{self._process.pid}\n", encoding="utf-8")
        return self._process.pid

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "WALVEC_CONFIG": str(self.config)}

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
        self.pid_file.unlink(missing_ok=True)

    @staticmethod
    def _terminate(process: subprocess.Popen[bytes]) -> int:
        process.terminate()
        try:
            return process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def stop_previous(self) -> bool:
        """Stop the one that an earlier demo left running here; return whether there was one."""
        try:
            pid = int(self.pid_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return False
        found = _is_walvec(pid)
        deadline = time.monotonic() + STOP_LIMIT
        if found:
            os.kill(pid, signal.SIGTERM)
        while _is_walvec(pid):
            if time.monotonic() > deadline:
                raise DemoFailed(f"the walvec of an earlier demo does not stop: process {pid}")
            time.sleep(0.02)
        self.pid_file.unlink()
        return found

    def until(self, so: Callable[[], bool], what: str, limit: float = 30.0) -> None:
        """Ask once a millisecond until it is so; fail where walvec ends first, or after `limit` seconds."""
        deadline = time.monotonic() + limit
        while not so():
            if self._process is not None and (code := self._process.poll()) is not None:
                end = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
                raise DemoFailed(f"walvec run {end}{self._last_words()}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what}: not within {limit:.0f} s{self._last_words()}")
            time.sleep(POLL_INTERVAL)

    def _last_words(self) -> str:
        """The end of a failure's line: where the log is, and its last warning or error."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in reversed(lines):
            if not line.startswith("{"):
                return f'; {self.log} ends with "{line.strip()}"'
            event = json.loads(line)
            if event.get("level") in ("warning", "error"):
                said = event.get("what") or event.get("message") or event["event"]
                return f'; {self.log} says "{said}"'
        return f"; see {self.log}"

    def tally(self) -> Tally:
        """Read the log on, and count all batches so far."""
        for event in self._batches():
            self._tally = Tally(self._tally.rows + event["rows"], self._tally.texts + event["texts_embedded"])
        return self._tally

    def _batches(self) -> Iterator[dict[str, Any]]:
        """Read the log on; the lines of committed batches."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                if line.startswith(b"{") and (event := json.loads(line))["event"] == "batch committed":
                    yield event


def wal_position(application: Connection) -> Lsn:
    """Where the WAL ends. What commits after this was read has a commit LSN beyond it."""
    ((text,),) = application.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
    return Lsn.parse(text)


def checkpoint(reader: Connection) -> Lsn:
    """The saved LSN: everything before it is embedded."""
    ((text,),) = reader.execute("SELECT lsn::text FROM walvec.checkpoint").fetchall()
    return Lsn.parse(text)


def _is_walvec(pid: int) -> bool:
    """Whether the process is this checkout's `walvec run`, and not another one that got its id since."""
    if Path("/proc/self").exists():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return str(WALVEC) in words and "run" in words
    ps = ["ps", "-o", "args=", "-p", str(pid)]
    return f"{WALVEC} run" in subprocess.run(ps, capture_output=True, text=True, check=False).stdout
