"""A blog under walvec, and servers that a test may stop, kill and reconfigure."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.crash.observe import follow_blog
from tests.fix_embedding_service import EmbeddingService
from tests.fix_postgres import Cluster
from tests.fix_proxy import Proxy
from tests.fix_walvec import Sidecar


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless WALVEC_TORTURE is set, as `make torture` does."""
    for item in items:
        if item.get_closest_marker("torture") and not os.environ.get("WALVEC_TORTURE"):
            item.add_marker(pytest.mark.skip("takes minutes: make torture"))


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """Give walvec on an empty blog; a handful of rows make a batch, so that little work is many batches."""
    sidecar.settings["pipeline"] = {"batch_rows": 8}
    follow_blog(sidecar)
    return sidecar


@pytest.fixture
def on_cluster(
    cluster: Cluster,
    tmp_path: Path,
    embedding_service: EmbeddingService,
    log: list[dict[str, Any]],
    impatient: None,
) -> Iterator[Callable[..., Sidecar]]:
    """Give a function that makes a sidecar on a server that the test may stop, kill and reconfigure.

    It takes connection strings of source and target, which default to one database of the server.
    """
    made: list[Sidecar] = []
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")

    def make(source: str = "", target: str = "") -> Sidecar:
        source = source or cluster.dsn()
        own = Sidecar(source, target or source, tmp_path, embedding_service, log)
        made.append(own)
        return own

    yield make
    for own in made:
        own.close()


@pytest.fixture
def proxies(distant_sidecar: Sidecar, proxied: Callable[[str], tuple[Proxy, str]]) -> dict[str, Proxy]:
    """Give the proxies before source and target, which `distant_sidecar` takes its ways through."""
    made = {}
    for side in ("source", "target"):
        made[side], dsn = proxied(distant_sidecar.settings[side]["dsn"])
        distant_sidecar.settings[side]["dsn"] = dsn
    return made
