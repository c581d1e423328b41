"""The real `walvec` commands, as processes of their own, and what they took."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.report import BenchFailed
from bench.service import Service

WALVEC = Path(sys.executable).with_name("walvec")
LIMIT = 1200.0  # seconds after which what is waited for will not come any more
LOOK_INTERVAL = 0.002  # seconds
STOP_LIMIT = 40.0  # seconds; walvec takes at most 30 to finish what is in flight

Settings = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """What a process took, from its start to its end."""

    seconds: float
    cpu_seconds: float
    # By the kernel's account, which begins with what the parent held: keep rows out of this process.
    peak_rss_bytes: int


def wait_for(process: subprocess.Popen[Any], began: float) -> Timing:
    """Wait for a child's end; `began` is the time.perf_counter() of its start."""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    scale = 1 if sys.platform == "darwin" else 1024
    return Timing(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale)


def until(condition: Callable[[], object], what: str, *, limit: float = LIMIT) -> float:
    """Ask again and again until it is so; return the seconds that took."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > limit:
            raise BenchFailed(f"not within {limit:.0f} s: {what}")
        time.sleep(LOOK_INTERVAL)
    return time.perf_counter() - began


class Sidecar:
    """One walvec in a directory: walvec.toml, walvec.log.

    Without `service` texts are embedded by the hashing provider. `embedder`, `pipeline` and `vectorizer` hold
    what differs from the defaults; slot and publication are called `name`.
    """

    def __init__(
        self,
        directory: Path,
        dsn: str,
        table: str,
        *,
        text: str = "body",
        name: str = "bench",
        service: Service | None = None,
        embedder: Settings | None = None,
        pipeline: Settings | None = None,
        vectorizer: Settings | None = None,
        listen: str = "",
        log_level: str = "info",
    ) -> None:
        self.dsn = dsn
        self.name = name
        self.target = f"{table}_embedding"
        self.config = directory / "walvec.toml"
        self.log = directory / "walvec.log"
        self.settings: dict[str, Settings] = {
            "source": {"dsn": dsn, "slot": name, "publication": name},
            "embedder": _embedder(service) | (embedder or {}),
            "pipeline": pipeline or {},
            "http": {"listen": listen},
            "log": {"format": "json", "level": log_level},
            "[vectorizer]": {
                "name": table.replace(".", "_"),
                "table": table,
                "text": text,
                "target": self.target,
                "chunk": "none",
                "index": "none",
            }
            | (vectorizer or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    def command(self, *words: str) -> Timing:
        """Run one of walvec's commands to its end. Raises BenchFailed unless that is a good one."""
        self._launch(*words)
        return self._finish(words[0])

    def setup(self) -> Timing:
        """Create publication, slot and target."""
        return self.command("setup")

    def once(self) -> Timing:
        """Embed all that is committed now, start-up included."""
        return self.command("run", "--once")

    def start(self) -> subprocess.Popen[bytes]:
        """Start `walvec run`, and wait until it streams."""
        process = self._launch("run")
        until(self._streams, "walvec streams")
        return process

    def stop(self) -> Timing:
        """Stop it in order; what it took."""
        assert self.process is not None
        self.process.terminate()
        return self._finish("run")

    def teardown(self) -> None:
        """Drop slot, publication and target, after stopping what runs."""
        self.end()
        self.command("teardown", "--tables", "--yes")

    def end(self) -> None:
        """End what still runs, however that goes."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def caught_up(self, connection: psycopg.Connection[Any]) -> float:
        """Wait until all that is committed before is embedded; return the seconds that took.

        For a walvec that runs; `connection` is an autocommit one to source and target.
        """
        ((lsn,),) = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
        connection.execute("SELECT pg_logical_emit_message(true, 'bench', '')")
        reached = (
            "SELECT lsn >= %s::pg_lsn AND NOT EXISTS (SELECT FROM walvec.vectorizer WHERE phase <> 'done') "
            "FROM walvec.checkpoint WHERE slot = %s"
        )
        return until(
            lambda: self._lives() and connection.execute(reached, [lsn, self.name]).fetchone() == (True,),
            f"walvec is past {lsn}",
        )

    def _launch(self, *words: str) -> subprocess.Popen[bytes]:
        if self.process is not None:
            raise BenchFailed("this walvec runs already")
        self._configure()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WALVEC_")}
        with self.log.open("wb") as log:
            self._began = time.perf_counter()
            self.process = subprocess.Popen(
                [WALVEC, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, "WALVEC_CONFIG": str(self.config)},
                start_new_session=True,  # Ctrl-C is for the suite, which then stops it in order
            )
        return self.process

    def _configure(self) -> None:
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.touch(mode=0o600)  # the connection string may hold a password
        sections = [
            "\n".join([f"[{title}]", *map(_line, section.items())])
            for title, section in self.settings.items()
        ]
        self.config.write_text("\n\n".join(sections) + "\n", encoding="utf-8")

    def _finish(self, command: str) -> Timing:
        process = self.process
        assert process is not None
        timing = wait_for(process, self._began)
        self.process = None
        if process.returncode:
            raise BenchFailed(f"walvec {command} ended with exit code {process.returncode}; see {self.log}")
        return timing

    def _streams(self) -> bool:
        return self._lives() and b'"event":"streaming"' in self.log.read_bytes().replace(b": ", b":")

    def _lives(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise BenchFailed(f"walvec has ended; see {self.log}")
        return True


def _embedder(service: Service | None) -> Settings:
    if service is None:
        return {"provider": "hashing"}
    return {
        "provider": "openai",
        "model": "bench",
        "dimensions": service.dimensions,
        "base_url": service.url,
    }


def _line(item: tuple[str, object]) -> str:
    name, value = item
    return f"{name} = {json.dumps(value)}"
