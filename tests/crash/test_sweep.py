"""Rows that go from the source without a word in the stream, while others are on their way."""

from tests.fix_process import until
from tests.fix_sidecar import Sidecar


def test_partition_is_truncated_while_its_rows_are_on_their_way(sidecar: Sidecar) -> None:
    """The sweep for a truncated partition begins once its rows are in the target."""
    sidecar.source.execute("CREATE TABLE page (id int PRIMARY KEY, body text) PARTITION BY LIST (id)")
    sidecar.source.execute("CREATE TABLE page_1 PARTITION OF page FOR VALUES IN (1)")
    sidecar.source.execute("CREATE TABLE page_2 PARTITION OF page DEFAULT")
    sidecar.follow("page", index="none")
    sidecar.setup()
    with sidecar.running():
        sidecar.in_step()
        sidecar.service.latency = 0.5
        sidecar.source.execute("INSERT INTO page VALUES (1, 'stays'), (2, 'goes')")
        until(lambda: sidecar.service.in_flight, "the rows, on their way")
        sidecar.source.execute("TRUNCATE page_2")
        sidecar.in_step()
        assert sidecar.actual() == sidecar.expected()
