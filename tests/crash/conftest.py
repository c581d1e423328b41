"""A blog under walvec, and servers that a test may stop, kill and reconfigure."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.observe import follow_blog
from tests.fix_embedding_service import EmbeddingService
from tests.fix_postgres import Cluster, own_cluster
from tests.fix_proxy import Proxy
from tests.fix_sidecar import Sidecar


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless WALVEC_TORTURE is set, as `make torture` does."""
    for item in items:
        if item.get_closest_marker("torture") and not os.environ.get("WALVEC_TORTURE"):
            item.add_marker(pytest.mark.skip("takes minutes: make torture"))


@pytest.fixture
def plugin() -> str:
    """Give the output plugin of the blog's slot; a test may be parametrised by others."""
    return "wal2json"


@pytest.fixture
def blog(sidecar: Sidecar, plugin: str) -> Sidecar:
    """Give walvec on an empty blog; a handful of rows make a batch, so that little work is many batches."""
    sidecar.settings["source"]["plugin"] = plugin
    sidecar.settings["pipeline"] = {"batch_rows": 8}
    follow_blog(sidecar)
    return sidecar


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Give one server for all tests of a module; `on_cluster` restores it after each."""
    with own_cluster() as own:
        yield own


@pytest.fixture
def on_cluster(
    cluster: Cluster,
    tmp_path: Path,
    embedding_service: EmbeddingService,
    log: list[dict[str, Any]],
) -> Iterator[Callable[[], Sidecar]]:
    """Give a function that makes a sidecar on a server that the test may stop, kill and reconfigure."""
    made: list[Sidecar] = []

    def make() -> Sidecar:
        dsn = cluster.create_database()
        made.append(Sidecar(dsn, dsn, tmp_path, embedding_service, log))
        made[-1].source.execute("CREATE EXTENSION vector")
        return made[-1]

    yield make
    for own in made:
        own.close()
    cluster.restore()


@pytest.fixture
def proxies(distant_sidecar: Sidecar, proxied: Callable[[str], tuple[Proxy, str]]) -> dict[str, Proxy]:
    """Give the proxies before source and target, which `distant_sidecar` takes its ways through."""
    made = {}
    for side in ("source", "target"):
        made[side], dsn = proxied(distant_sidecar.settings[side]["dsn"])
        distant_sidecar.settings[side]["dsn"] = dsn
    return made
