"""The real `walvec` commands, as processes of their own, and what they took."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench.child import Child, Timing, until
from bench.service import Service

WALVEC = Path(sys.executable).with_name("walvec")

Settings = dict[str, Any]


class Sidecar:
    """One walvec in a directory: walvec.toml, walvec.log.

    Without `service` texts are embedded by the hashing provider. `embedder`, `pipeline` and `vectorizer` hold
    what differs from the defaults; slot and publication are called `name`, which is
    the database's unless given.
    """

    def __init__(
        self,
        directory: Path,
        dsn: str,
        table: str,
        *,
        text: str = "body",
        name: str = "",
        service: Service | None = None,
        embedder: Settings | None = None,
        pipeline: Settings | None = None,
        vectorizer: Settings | None = None,
        listen: str = "",
        log_level: str = "info",
    ) -> None:
        self.dsn = dsn
        self.name = name = name or str(conninfo_to_dict(dsn)["dbname"])
        self.target = f"{table}_embedding"
        self.config = directory / "walvec.toml"
        self._child = Child("walvec", directory / "walvec.log")
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

    @property
    def log(self) -> Path:
        """What the last command printed."""
        return self._child.log

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process that runs, if one does."""
        return self._child.process

    def command(self, *words: str) -> Timing:
        """Run one of walvec's commands to its end. Raises BenchFailed unless that is a good one."""
        self._launch(*words)
        return self._child.finish()

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
        return self._child.stop()

    def teardown(self) -> None:
        """Drop slot, publication and target, after stopping what runs."""
        self.end()
        self.command("teardown", "--tables", "--yes")

    def end(self) -> None:
        """End what still runs, however that goes."""
        self._child.end()

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
            lambda: (
                self._child.lives() and connection.execute(reached, [lsn, self.name]).fetchone() == (True,)
            ),
            f"walvec is past {lsn}",
        )

    def _launch(self, *words: str) -> subprocess.Popen[bytes]:
        self._configure()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WALVEC_")}
        return self._child.start([WALVEC, *words], environment | {"WALVEC_CONFIG": str(self.config)})

    def _configure(self) -> None:
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.touch(mode=0o600)  # the connection string may hold a password
        sections = [
            "\n".join([f"[{title}]", *map(_line, section.items())])
            for title, section in self.settings.items()
        ]
        self.config.write_text("\n\n".join(sections) + "\n", encoding="utf-8")

    def _streams(self) -> bool:
        return self._child.lives() and b'"event":"stream.attached"' in self.log.read_bytes().replace(
            b": ", b":"
        )


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
