import itertools
import os

import psycopg
import pytest

from tests import fix_servers
from tests.fix_postgres import Cluster
from tests.fix_servers import ServerMissing
from tests.fix_standby import standby_of

_numbers = itertools.count()


@pytest.fixture(params=fix_servers.VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    """Give each version that this machine can run."""
    asked: int = request.param
    if missing := fix_servers.why_missing(asked):
        pytest.skip(missing)
    return asked


def test_cluster_runs_the_version_asked_for_and_so_does_its_standby(version: int) -> None:
    """A cluster made with a version's programs is of that version, has pgvector, and can be followed."""
    made = Cluster(f"test-{os.getpid()}-version-{next(_numbers)}", fix_servers.programs_of(version))
    try:
        with psycopg.connect(made.dsn(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            assert connection.info.server_version // 10_000 == version
            assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        with standby_of(made) as standby:
            standby.caught_up(made)
            standby.promote()
            with psycopg.connect(standby.dsn()) as connection:
                assert connection.info.server_version // 10_000 == version
                assert connection.execute("SELECT '[1]'::vector::text").fetchone() == ("[1]",)
    finally:
        made.drop()


def test_version_that_no_test_server_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """WALVEC_TEST_PG takes the versions that the tests know, and names them otherwise."""
    monkeypatch.setenv(fix_servers.VARIABLE, "17")
    with pytest.raises(ServerMissing, match="15, 16, 18"):
        fix_servers.chosen()
