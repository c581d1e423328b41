"""Every kind of change, one by one, on its way from the source's table to the target's."""

from tests.fix_walvec import Sidecar


def test_insert(sidecar: Sidecar) -> None:
    """A new row gets an embedding."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    sidecar.follow()
    sidecar.setup()
    with sidecar.running():
        sidecar.source.execute("INSERT INTO blog VALUES (1, 'one'), (2, 'two')")
        sidecar.in_step()
    assert sidecar.actual() == sidecar.expected()
