"""walvec on databases of the test's own: its settings, its runs in this process and in others, and f.

    sidecar.follow("blog", text="title")        one more [[vectorizer]]
    sidecar.setup()                             walvec setup
    sidecar.once()                              walvec run --once, in this process: quick
    with sidecar.running():                     walvec run, in a thread of this process
        sidecar.in_step()                       until all that was committed before is embedded
    process = sidecar.start("run", env={…})     walvec run, in a process of its own, to be killed
    assert sidecar.actual() == sidecar.expected()

`expected` works f out anew, from the source's rows by SQL and from `Chunker`; nothing of the pipeline is in
it.
"""

import asyncio
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, LiteralString, Self, TypeVar, cast

import psycopg
import pytest
import structlog
from psycopg import sql
from psycopg.conninfo import make_conninfo
from structlog.testing import LogCapture

from tests.fix_embedding_service import EmbeddingService, vector_of
from tests.fix_postgres import databases
from walvec import supervise
from walvec.commands import backfill, setup
from walvec.config.load import Config, TableName, load_config
from walvec.database.silence import Patience
from walvec.embed.protocol import Vector
from walvec.embed.vectors import MAX_VECTOR_DIMENSIONS
from walvec.stages.chunk import Chunker, input_hash
from walvec.stages.timing import Timing
from walvec_slots.errors import WalvecError

TIMEOUT = 30.0  # seconds after which what a test waits for will not come any more

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

# Values print on the test's own sessions as they do on walvec's, so that f gives the same text.
_PRINTING = (
    "-c timezone=UTC -c datestyle=ISO,MDY -c intervalstyle=postgres "
    "-c extra_float_digits=3 -c bytea_output=hex"
)

Key = tuple[str, ...]
Chunks = dict[Key, list[str]]  # a row's chunks in order, by its key
T = TypeVar("T")

_numbers = itertools.count()


def until(condition: Callable[[], T | None], what: str = "", *, timeout: float = TIMEOUT) -> T:
    """Wait until the condition holds, and return what it gave; fail saying `what` was waited for."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}"
        time.sleep(0.005)
    return found


def _sql(text: str) -> sql.SQL:
    return sql.SQL(text)


@dataclass(frozen=True)
class Followed:
    """A vectorizer as the test knows it: its settings, and what f needs besides them."""

    settings: dict[str, Any]
    key: tuple[str, ...]
    row_filter: str

    @property
    def table(self) -> TableName:
        """The source's table."""
        return TableName.parse(self.settings["table"])

    @property
    def target(self) -> TableName:
        """The target's table."""
        return TableName.parse(self.settings["target"])

    def rows(self) -> sql.Composed:
        """The query for every row's key and text; NULL for a row without an embedding."""
        return sql.SQL(
            "SELECT {key}, CASE WHEN ({row_filter}) AND ({where}\n) THEN ({text}\n)::text END "
            "FROM {table} AS {alias}"
        ).format(
            key=_columns(self.key),
            row_filter=_sql(self.row_filter),
            where=_sql(self.settings.get("where", "true")),
            text=_sql(self.settings["text"]),
            table=sql.Identifier(*self.table),
            alias=sql.Identifier(self.table.name),
        )

    def chunks(self) -> sql.Composed:
        """The query for every chunk: key, chunk_seq, chunk, embedding, input_hash."""
        return sql.SQL(
            "SELECT {key}, chunk_seq, chunk, embedding::real[], input_hash FROM {target} "
            "ORDER BY {order}, chunk_seq"
        ).format(
            key=_columns(self.key),
            target=sql.Identifier(*self.target),
            order=sql.SQL(", ").join(map(sql.Identifier, self.key)),
        )

    def chunker(self) -> Chunker:
        """What cuts its texts."""
        chunk = self.settings.get("chunk", {"size": 2000, "overlap": 200})
        return Chunker() if chunk == "none" else Chunker(chunk["size"], chunk["overlap"])


def _columns(key: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in key)


class Process:
    """A walvec in a process of its own. Its log is a file of JSON lines."""

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
        """Wait for an end of its own accord. Raises what it ended with."""
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


class Sidecar:
    """One walvec.toml, and what is done with it. `settings` and `timing` may be altered before any run."""

    def __init__(
        self, source: str, target: str, directory: Path, service: EmbeddingService, log: list[dict[str, Any]]
    ) -> None:
        self.service = service
        self.log = log  # of the runs in this process
        self.directory = directory
        self.followed: dict[str, Followed] = {}
        self.timing = IMPATIENT
        self.slot = f"walvec_{os.getpid()}_{next(_numbers)}"
        self.settings: dict[str, dict[str, Any]] = {
            "source": {"dsn": source, "slot": self.slot},
            "embedder": {
                "provider": "openai",
                "model": "m",
                "dimensions": service.dimensions,
                "base_url": service.url,
            },
            "pipeline": {},
            "http": {"listen": ""},
            "log": {"format": "json", "level": "debug"},
        }
        if target != source:
            self.settings["target"] = {"dsn": target}
        self._dsns = source, target
        self.source, self.target = self._sessions()
        self._processes: list[Process] = []

    def close(self) -> None:
        """End what was started and still runs."""
        for process in self._processes:
            process.close()
        self.source.close()
        self.target.close()

    def reconnect(self) -> None:
        """Open the test's own sessions anew, after a fault that has ended them."""
        self.source.close()
        self.target.close()
        self.source, self.target = self._sessions()

    def _sessions(self) -> tuple[psycopg.Connection, psycopg.Connection]:
        source, target = (
            psycopg.connect(make_conninfo(dsn, options=_PRINTING), autocommit=True) for dsn in self._dsns
        )
        return source, target

    # -- Settings --------------------------------------------------------------------------------------------

    def follow(
        self,
        name: str = "blog",
        *,
        table: str | None = None,
        key: tuple[str, ...] = ("id",),
        row_filter: str = "true",
        **settings: Any,
    ) -> None:
        """Add a vectorizer, or put another in the place of the one of that name.

        Its table defaults to its name, its text to column `body`. `key` and `row_filter` (the publication's,
        in SQL) are for f alone: walvec has to find them out by itself.
        """
        complete = {
            "name": name,
            "table": table or name,
            "text": "body",
            "target": f"{name}_embedding",
            **settings,
        }
        self.followed[name] = Followed(complete, key, row_filter)

    def forget(self, name: str) -> None:
        """Take a vectorizer out of the settings."""
        del self.followed[name]

    @property
    def path(self) -> Path:
        """The settings' file, written anew."""
        path = self.directory / "walvec.toml"
        sections = [(f"[{name}]", section) for name, section in self.settings.items()]
        sections += [("[[vectorizer]]", followed.settings) for followed in self.followed.values()]
        lines = ["\n".join([title, *map(_toml_line, section.items())]) for title, section in sections]
        path.write_text("\n\n".join(lines) + "\n")
        return path

    @property
    def config(self) -> Config:
        """The settings as every command reads them."""
        return load_config(self.path)

    # -- Commands, in this process ---------------------------------------------------------------------------

    def setup(self, time_limit: float = TIMEOUT) -> None:
        """`walvec setup`."""
        asyncio.run(setup.setup(self.config, time_limit=time_limit))

    def backfill(self, name: str = "blog") -> None:
        """`walvec backfill NAME`."""
        asyncio.run(backfill.restart(self.config, [name], sure=True))

    def once(self, timeout: float = TIMEOUT) -> None:
        """`walvec run --once`."""
        run = supervise.supervise(
            self.config, once=True, wait=True, give_up_after=0, stop=asyncio.Event(), timing=self.timing
        )
        asyncio.run(asyncio.wait_for(run, timeout))

    def refusal(self, command: Callable[[], None]) -> WalvecError:
        """Run a command that has to fail, and return the error that its user is shown."""
        with pytest.raises(WalvecError) as raised:
            command()
        return raised.value

    @contextmanager
    def running(self) -> Iterator[Run]:
        """`walvec run`, for the length of a block: at its end it is stopped in order."""
        run = Run(self.config, self.timing).start()
        self._alive = lambda: run.alive
        try:
            yield run
        finally:
            self._alive = lambda: True
            run.stop()

    # -- Commands, in processes of their own -----------------------------------------------------------------

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> Process:
        """Start `walvec` with these words and these variables besides. Killed at the test's end."""
        self.path  # noqa: B018  written anew
        process = Process(words, self.directory, os.environ | (env or {}), self.timing)
        self._processes.append(process)
        return process

    # -- Waiting ---------------------------------------------------------------------------------------------

    _alive: Callable[[], bool] = staticmethod(lambda: True)

    def in_step(self, *, timeout: float = TIMEOUT) -> None:
        """Wait until everything committed before the call is embedded, and no backfill has work to do.

        For a process that runs. A message in the WAL marks the place that the checkpoint has to pass; it is
        as long as what is worth a checkpoint, because pgoutput does not send its transaction.
        """
        ((lsn,),) = self.source.execute(
            "SELECT pg_logical_emit_message(true, 'tests', repeat('.', 70000))::text"
        ).fetchall()

        def is_in_step() -> bool:
            assert self._alive(), "walvec has stopped"
            return self.state_is("lsn >= %s::pg_lsn", lsn) and self.backfilled()

        until(is_in_step, f"checkpoint past {lsn} and every backfill done", timeout=timeout)

    def eventually(self) -> None:
        """Wait until target = f(source), for changes that no place in the WAL stands for: the catalog's.

        Then until it is in step, in case more was on its way.
        """

        def is_so() -> bool:
            assert self._alive(), "walvec has stopped"
            return self.actual() == self.expected()

        with suppress(AssertionError):  # the test's own comparison shows the difference
            until(is_so, timeout=TIMEOUT / 3)
        self.in_step()

    def state_is(self, condition: LiteralString, *values: object) -> bool:
        """Whether a condition on walvec.checkpoint holds."""
        row = self.target.execute(
            sql.SQL("SELECT {} FROM walvec.checkpoint WHERE slot = %s").format(sql.SQL(condition)),
            [*values, self.slot],
        ).fetchone()
        return row == (True,)

    def backfilled(self) -> bool:
        """Whether every vectorizer's backfill is done."""
        done = "SELECT coalesce(bool_and(phase = 'done'), true) FROM walvec.vectorizer WHERE slot = %s"
        return self.target.execute(done, [self.slot]).fetchone() == (True,)

    # -- Source and target -----------------------------------------------------------------------------------

    def expected(self) -> dict[str, Chunks]:
        """What every vectorizer's target must hold: f(source)."""
        return {name: self._expected(followed) for name, followed in self.followed.items()}

    def expected_of(self, name: str) -> Chunks:
        """What one vectorizer's target must hold, where another's table cannot be read at present."""
        return self._expected(self.followed[name])

    def actual_of(self, name: str) -> Chunks:
        """What one vectorizer's target holds; fails as `actual` does."""
        return self._actual(self.followed[name])

    def actual(self) -> dict[str, Chunks]:
        """What every vectorizer's target holds.

        Fails at a chunk whose hash or vector is not its text's, and at a gap in chunk_seq.
        """
        return {name: self._actual(followed) for name, followed in self.followed.items()}

    def _expected(self, followed: Followed) -> Chunks:
        split = followed.chunker().split
        rows = self.source.execute(followed.rows()).fetchall()
        return {tuple(key): chunks for *key, text in rows if text and (chunks := split(text))}

    def _actual(self, followed: Followed) -> Chunks:
        model, dimensions = self.settings["embedder"]["model"], self.settings["embedder"]["dimensions"]
        found: Chunks = {}
        for *key, chunk_seq, chunk, vector, hashed in self.target.execute(followed.chunks()).fetchall():
            chunks = found.setdefault(tuple(key), [])
            assert chunk_seq == len(chunks), f"{key}: chunk_seq {chunk_seq} follows {len(chunks)} chunks"
            assert hashed == input_hash(model, dimensions, chunk), f"{key}: hash of another input"
            assert array("f", vector) == self._vector(chunk), f"{key}: vector of another text"
            chunks.append(chunk)
        return found

    def _vector(self, text: str) -> Vector:
        vector = vector_of(text, self.settings["embedder"]["dimensions"])
        if len(vector) > MAX_VECTOR_DIMENSIONS:
            half = f"{len(vector)}e"
            return array("f", struct.unpack(half, struct.pack(half, *vector)))
        return vector


def _toml_line(item: tuple[str, object]) -> str:
    name, value = item
    return f"{name} = {_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(map(_toml_line, value.items())) + " }"
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def logging() -> Iterator[list[dict[str, Any]]]:
    """Collect what is logged in this process, as events with their key-values."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.stdlib.add_log_level, capture])
    yield cast("list[dict[str, Any]]", capture.entries)
    structlog.reset_defaults()


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    """What the test's runs in this process log."""
    with logging() as entries:
        yield entries


@pytest.fixture
def sidecar(
    database: str,
    tmp_path: Path,
    embedding_service: EmbeddingService,
    log: list[dict[str, Any]],
) -> Iterator[Sidecar]:
    """One database of walvec that is source and target, and an embedding service over HTTP."""
    with closing(Sidecar(database, database, tmp_path, embedding_service, log)) as own:
        yield own


@pytest.fixture
def distant_sidecar(
    create_database: Callable[[], str],
    tmp_path: Path,
    embedding_service: EmbeddingService,
    log: list[dict[str, Any]],
) -> Iterator[Sidecar]:
    """The same, with the target in another database."""
    with closing(Sidecar(create_database(), create_database(), tmp_path, embedding_service, log)) as own:
        yield own


@contextmanager
def new_sidecar(server: str, template: str, directory: Path) -> Iterator[Sidecar]:
    """Give one with a database of its own, for fixtures that outlive a test."""
    with databases(server, template) as create, EmbeddingService() as service, logging() as entries:
        database = create()
        with closing(Sidecar(database, database, directory, service, entries)) as own:
            yield own


@pytest.fixture(scope="module")
def shared_sidecar(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One for all tests of a module, which follow each other on its tables: much quicker."""
    directory = tmp_path_factory.mktemp("sidecar")
    with new_sidecar(server, template, directory) as own:
        own.timing = SELDOM_LOOKING
        yield own
