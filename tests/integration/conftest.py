"""Tables that many tests begin with."""

import pytest

from tests.fix_sidecar import Sidecar


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """A followed table `blog` of five rows, embedded already: what comes now comes with the stream."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text, views int DEFAULT 0)")
    sidecar.source.execute("INSERT INTO blog SELECT i, 'body ' || i FROM generate_series(1, 5) AS i")
    sidecar.follow()
    sidecar.setup()
    sidecar.once()
    sidecar.service.forget()
    return sidecar
