"""walvec on databases of the test's own: its settings, its commands, and what its targets hold.

    sidecar.follow("blog", text="title")        one more [[vectorizer]]
    sidecar.setup()                             walvec setup
    sidecar.once()                              walvec run --once, in this process: quick
    with sidecar.running():                     walvec run, in a thread of this process
        sidecar.in_step()                       until all that was committed before is embedded
    process = sidecar.start("run", env={…})     walvec run, in a process that may be killed
    assert sidecar.actual() == sidecar.expected()

What it must hold is worked out by `oracle`.
"""

import asyncio
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.fix_embedding_service import EmbeddingService
from tests.fix_postgres import databases
from tests.fix_process import IMPATIENT, SELDOM_LOOKING, TIMEOUT, Process, Run, logging, until
from tests.oracle import (
    Chunks,
    Followed,
    actual_chunks,
    checkpoint_is,
    expected_chunks,
    is_backfilled,
    mark_wal,
)
from walvec import supervise
from walvec.commands import backfill, setup
from walvec.config.load import Config, load_config
from walvec_slots.errors import WalvecError

# Values print on the test's own sessions as they do on walvec's, so that f gives the same text.
_PRINTING = (
    "-c timezone=UTC -c datestyle=ISO,MDY -c intervalstyle=postgres "
    "-c extra_float_digits=3 -c bytea_output=hex"
)

_numbers = itertools.count()


class Sidecar:
    """One walvec.toml, and what is done with it.

    `settings` and `timing` may be altered before any run.
    """

    def __init__(
        self, source: str, target: str, directory: Path, service: EmbeddingService, log: list[dict[str, Any]]
    ) -> None:
        self.service = service

        # Of the runs in this process.
        self.log = log

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
        """Open the test's own sessions again, after a fault that has ended them."""
        self.source.close()
        self.target.close()
        self.source, self.target = self._sessions()

    def _sessions(self) -> tuple[psycopg.Connection, psycopg.Connection]:
        source, target = (
            psycopg.connect(make_conninfo(dsn, options=_PRINTING), autocommit=True) for dsn in self._dsns
        )
        return source, target

    # -- Settings

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

        Its table defaults to its name, its text to the column `body`. `key` and `row_filter` (the
        publication's, in SQL) are for f alone: walvec has to find them out by itself.
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
        """The settings' file, as they are now."""
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

    # -- Commands, in this process

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

    # -- Commands, in processes of their own

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> Process:
        """Start `walvec` with these words, and these variables besides.

        It is killed at the end of the test.
        """
        _ = self.path
        process = Process(words, self.directory, os.environ | (env or {}), self.timing)
        self._processes.append(process)
        return process

    # -- Waiting

    _alive: Callable[[], bool] = staticmethod(lambda: True)

    def in_step(self, *, timeout: float = TIMEOUT) -> None:
        """Wait until all committed before the call is embedded, and no backfill has work.

        This is for a process that runs.
        """
        lsn = mark_wal(self.source)

        def is_in_step() -> bool:
            assert self._alive(), "walvec has stopped"
            return self.state_is("lsn >= %s::pg_lsn", lsn) and self.backfilled()

        until(is_in_step, f"checkpoint past {lsn} and every backfill done", timeout=timeout)

    def eventually(self) -> None:
        """Wait until target = f(source), and then until it is in step.

        This is for changes that no place in the WAL stands for: those of the catalog.
        """

        def is_so() -> bool:
            assert self._alive(), "walvec has stopped"
            return self.actual() == self.expected()

        with suppress(AssertionError):  # the test's own comparison shows the difference
            until(is_so, timeout=TIMEOUT / 3)
        self.in_step()

    def state_is(self, condition: LiteralString, *values: object) -> bool:
        """Whether a condition on walvec.checkpoint holds."""
        return checkpoint_is(self.target, self.slot, condition, *values)

    def backfilled(self) -> bool:
        """Whether every vectorizer's backfill is done."""
        return is_backfilled(self.target, self.slot)

    # -- Source and target

    def expected(self) -> dict[str, Chunks]:
        """Return what every vectorizer's target must hold: f(source)."""
        return {name: self.expected_of(name) for name in self.followed}

    def expected_of(self, name: str) -> Chunks:
        """Return what one vectorizer's target must hold."""
        return expected_chunks(self.source, self.followed[name])

    def actual(self) -> dict[str, Chunks]:
        """Return what every vectorizer's target holds; fail as `actual_chunks` does."""
        return {name: self.actual_of(name) for name in self.followed}

    def actual_of(self, name: str) -> Chunks:
        """Return what one vectorizer's target holds."""
        model, dimensions = self.settings["embedder"]["model"], self.settings["embedder"]["dimensions"]
        return actual_chunks(self.target, self.followed[name], model=model, dimensions=dimensions)


def _toml_line(item: tuple[str, object]) -> str:
    name, value = item
    return f"{name} = {_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(map(_toml_line, value.items())) + " }"
    return json.dumps(value, ensure_ascii=False)


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
    """Give a sidecar with a new database, for fixtures that outlive a test."""
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
