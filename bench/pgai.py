"""pgai 0.12.1 beside walvec: its environment, its vectorizer, its worker.

The environment is optional: it is made from requirements-pgai.lock on first use, and a part that needs it is
skipped where that fails. The worker is pgai's own command. Its vectors come from one of two places:

    service=…        the suite's service, through pgai's Ollama provider: its fastest way to a server
    service=None     an embedder in the worker's own process (pgai_worker.py): the most that pgai could do
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench.child import Child, Timing, until
from bench.report import CHECKOUT, Skipped, directory, say
from bench.service import Service

VERSION = "0.12.1"
LOCK = Path(__file__).with_name("requirements-pgai.lock")
ENVIRONMENT = CHECKOUT / ".local/bench-pgai"
PYTHON = ENVIRONMENT / "bin/python"
_FROM_LOCK = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", LOCK)
QUEUE_INTERVAL = 0.02  # seconds between two looks at pgai's queue: counting it is work for the server

_CREATE = """
SELECT ai.create_vectorizer(
    {table}::regclass,
    destination => ai.destination_table(target_table => {target}),
    loading => ai.loading_column('body'),
    parsing => ai.parsing_none(),
    embedding => ai.embedding_ollama('bench', {dimensions}, base_url => {url}),
    chunking => ai.chunking_none(),
    formatting => ai.formatting_python_template('$chunk'),
    indexing => ai.indexing_none(),
    scheduling => ai.scheduling_none(),
    processing => ai.processing_default(batch_size => {batch}, concurrency => {tasks})
)
"""


@dataclass(frozen=True)
class Settings:
    """How many rows pgai takes at a time, in how many tasks."""

    batch: int
    tasks: int


# With more tasks its advisory lock a row runs out of shared memory: max_locks_per_transaction is the default.
BEST = Settings(2048, 4)
DEFAULTS = Settings(50, 1)


def require() -> None:
    """Make the environment unless it is there. Raises Skipped where that is not possible."""
    fingerprint = ENVIRONMENT / "fingerprint"
    lock = LOCK.read_text(encoding="utf-8")
    if fingerprint.exists() and fingerprint.read_text(encoding="utf-8") == lock:
        return
    say("installing pgai into .local/bench-pgai")
    log = directory() / "pgai-install.log"
    with log.open("wb") as into:
        for words in (
            ("venv", "--clear", "--without-pip", ENVIRONMENT),
            (*("pip", "--python", PYTHON, "install", "--quiet", "--no-input"), *_FROM_LOCK),
        ):
            command = [sys.executable, "-m", *map(str, words)]
            if subprocess.run(command, stdout=into, stderr=into, check=False).returncode:
                raise Skipped(f"pgai {VERSION} cannot be installed here (pgai-install.log says why)")
    fingerprint.write_text(lock, encoding="utf-8")


class Pgai:
    """One vectorizer of pgai on a table, and its worker."""

    def __init__(
        self,
        dsn: str,
        table: str,
        *,
        settings: Settings = BEST,
        service: Service | None = None,
        dimensions: int = 384,
        latency: float = 0.0,
    ) -> None:
        """Without `service`, texts are embedded in the worker itself, in `latency` seconds a request."""
        self.dsn = dsn
        self.table = table
        self.target = f"{table}_pgai"
        self.settings = settings
        self.service = service
        self.dimensions = dimensions
        self.latency = latency
        self._child = Child("pgai", directory() / "pgai/pgai.log")
        self._count = directory() / "pgai/texts"
        self._id = 0

    def install(self) -> None:
        """Put pgai's schema into the database."""
        self._launch("-m", "pgai", "install", "-d", self.dsn)
        self._child.finish()

    def create(self, connection: psycopg.Connection[Any]) -> None:
        """Make the vectorizer: the rows are queued, and its trigger queues what is written from now on."""
        query = sql.SQL(_CREATE).format(
            table=self.table,
            target=self.target,
            dimensions=self.dimensions,
            url=self.service.root if self.service else None,
            batch=self.settings.batch,
            tasks=self.settings.tasks,
        )
        ((self._id,),) = connection.execute(query).fetchall()

    def drop(self, connection: psycopg.Connection[Any]) -> None:
        """Drop the vectorizer, its queue, its trigger and its target."""
        connection.execute("SELECT ai.drop_vectorizer(%s, drop_all => true)", [self._id])

    def once(self) -> Timing:
        """Work the queue off, start-up included."""
        self._work("--once")
        return self._child.finish()

    def start(self) -> None:
        """Start the worker, and wait until it is at work; it asks for new work without a pause."""
        self._work("--poll-interval", "0")
        until(
            lambda: self._child.lives() and b"running vectorizer" in self._child.log.read_bytes(),
            "pgai's worker is at work",
        )

    def stop(self) -> None:
        """Stop it in order."""
        self._child.stop()

    def end(self) -> None:
        """End what still runs, however that goes."""
        self._child.end()

    def caught_up(self, connection: psycopg.Connection[Any]) -> float:
        """Wait until its queue is empty; return the seconds that took."""
        pending = "SELECT ai.vectorizer_queue_pending(%s, exact_count => true)"
        return until(
            lambda: self._child.lives() and connection.execute(pending, [self._id]).fetchone() == (0,),
            "pgai's queue is empty",
            interval=QUEUE_INTERVAL,
        )

    @property
    def texts(self) -> int:
        """Texts that the last worker asked its own embedder for."""
        return int(self._count.read_text(encoding="utf-8"))

    def rows(self, connection: psycopg.Connection[Any]) -> int:
        """Count its vectors."""
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(self.target))
        ((count,),) = connection.execute(query).fetchall()
        return int(count)

    def _work(self, *options: str) -> None:
        # -P: beside the script lies a module of the name of pgai's package, this one.
        entry = ["-m", "pgai"] if self.service else ["-P", str(Path(__file__).with_name("pgai_worker.py"))]
        self._launch(*entry, "vectorizer", "worker", "-d", self.dsn, "-i", str(self._id), *options)

    def _launch(self, *words: str) -> None:
        variables = {
            "BENCH_LATENCY": str(self.latency),
            "BENCH_DIMENSIONS": str(self.dimensions),
            "BENCH_COUNT": str(self._count),
        }
        self._child.start([PYTHON, *words], os.environ | variables)
