"""What the watch notices beside the stream."""

from time import sleep

from tests.fix_process import until
from tests.fix_sidecar import Sidecar


def paused(sidecar: Sidecar, name: str) -> str | None:
    """Why a vectorizer is paused, None if it is not."""
    ((reason,),) = sidecar.target.execute(
        "SELECT paused FROM walvec.vectorizer WHERE name = %s", [name]
    ).fetchall()
    return str(reason) if reason else None


def test_a_target_that_does_not_fit_pauses_its_vectorizer_alone(sidecar: Sidecar) -> None:
    """The others keep their attachment while it is paused; once the target fits, all of it is compared."""
    for name in ("blog", "page"):
        sidecar.source.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, body text)".encode())
        sidecar.follow(name)
    sidecar.setup()
    with sidecar.running():
        sidecar.in_step()
        sidecar.target.execute("ALTER TABLE page_embedding RENAME COLUMN chunk TO piece")
        sidecar.source.execute("INSERT INTO page VALUES (1, 'one')")
        until(lambda: paused(sidecar, "page"), "page is paused")
        until(lambda: sidecar.log[-1]["event"] == "stream.attached", "the others go on")
        logged = len(sidecar.log)
        sleep(3 * sidecar.timing.watch_interval)
        assert [line["event"] for line in sidecar.log[logged:]] == []
        sidecar.target.execute("ALTER TABLE page_embedding RENAME COLUMN piece TO chunk")
        until(lambda: not paused(sidecar, "page"), "page is followed again")
        sidecar.in_step()
    assert sidecar.actual() == sidecar.expected()
