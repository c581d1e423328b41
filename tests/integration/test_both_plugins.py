"""The same history through both output plugins, into two targets: byte for byte the same.

Random transactions, DDL, ends and beginnings, as in test_convergence.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import Self, cast

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

from tests.fix_embedding_service import EmbeddingService
from tests.fix_lacks import require
from tests.fix_postgres import databases
from tests.fix_process import Run, logging
from tests.fix_sidecar import Sidecar
from tests.integration.test_convergence import FIRST, STEPS, STEPS_WITH_DDL, TABLES, Player, Step
from tests.oracle import Followed

EXAMPLES = int(os.environ.get("WALVEC_TEST_EXAMPLES", "12"))

pytestmark = [pytest.mark.every_version, pytest.mark.needs("wal2json")]


@dataclass(frozen=True)
class Runs:
    """Two processes, ended together."""

    each: tuple[Run, ...]

    def abandon(self) -> None:
        """End both at once."""
        for run in self.each:
            run.abandon()


@dataclass(frozen=True)
class Pair:
    """Two sidecars on one source, as one for a Player."""

    each: tuple[Sidecar, ...]

    @property
    def source(self) -> psycopg.Connection:
        """The source."""
        return self.each[0].source

    @property
    def followed(self) -> dict[str, Followed]:
        """What is followed, the same for both."""
        return self.each[0].followed

    @contextmanager
    def running(self) -> Iterator[Runs]:
        """Let both run."""
        with ExitStack() as stack:
            yield Runs(tuple(stack.enter_context(sidecar.running()) for sidecar in self.each))

    def in_step(self) -> None:
        """Wait for both."""
        for sidecar in self.each:
            sidecar.in_step()

    def backfill(self, name: str) -> None:
        """Compare all rows in both."""
        for sidecar in self.each:
            sidecar.backfill(name)


def follow(sidecar: Sidecar, plugin: str) -> Sidecar:
    """Follow two tables with small batches, so that much is in flight at once."""
    sidecar.settings["source"]["plugin"] = plugin
    sidecar.settings["pipeline"] = {"batch_rows": 4, "batch_delay": 0.0}
    sidecar.follow("blog", chunk={"size": 12, "overlap": 0}, where="public IS NOT FALSE")
    sidecar.follow("views", table="blog", text="body || views", chunk="none", index="none")
    sidecar.follow("shout", table="blog", text="public.shout(body)", chunk="none", index="none")
    sidecar.follow("page", key=("lang", "id"), text="lang || ': ' || body")
    sidecar.setup()
    sidecar.once()
    return sidecar


@pytest.fixture(scope="module")
def pair(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One source under two sidecars, which share its publication."""
    with (
        databases(server, template) as create,
        EmbeddingService() as service,
        logging() as log,
        ExitStack() as stack,
    ):
        source = create()
        with psycopg.connect(source, autocommit=True) as owner:
            require(owner, "wal2json")
            for table in TABLES:
                owner.execute(table.encode())
        sidecars = []
        for plugin in ("wal2json", "pgoutput"):
            directory = tmp_path_factory.mktemp(plugin)
            sidecar = stack.enter_context(closing(Sidecar(source, create(), directory, service, log)))
            sidecars.append(follow(sidecar, plugin))
        service.latency = 0.01
        yield Pair(tuple(sidecars))


class PairPlayer(Player):
    """Plays steps on the source of a pair, and begins with two targets that hold nothing."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(cast("Sidecar", pair))
        self._pair = pair

    def __enter__(self) -> Self:
        for statement in FIRST:
            targets = [sidecar.target for sidecar in self._pair.each]
            for connection in targets if "_embedding" in statement else [self._pair.source]:
                connection.execute(statement.encode())
        self._begin()
        return self


def play(pair: Pair, steps: list[Step]) -> None:
    """Play the steps; then both targets are the source's, and each other's."""
    with PairPlayer(pair) as player:
        for step in steps:
            player.play(step)
        player.play("stop")
        player.play("in step")
    wal2json, pgoutput = pair.each
    assert wal2json.actual() == pgoutput.actual() == wal2json.expected()


SLOWLY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.timeout(400 + EXAMPLES * 10)
@given(steps=STEPS)
@SLOWLY
def test_rows_are_the_same_through_both(pair: Pair, steps: list[Step]) -> None:
    """Whatever transactions there are, and wherever both end in between."""
    play(pair, steps)


@pytest.mark.timeout(400 + EXAMPLES * 20)
@given(steps=STEPS_WITH_DDL)
@SLOWLY
def test_rows_are_the_same_through_both_whatever_the_catalog_does(pair: Pair, steps: list[Step]) -> None:
    """With tables, publication and functions that change meanwhile."""
    play(pair, steps)
    pair.source.execute("ALTER PUBLICATION walvec SET TABLE page, blog")
    for name in ("blog", "views", "shout"):
        pair.followed[name] = replace(pair.followed[name], row_filter="true")
