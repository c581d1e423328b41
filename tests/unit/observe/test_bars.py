import io
import re

from rich.console import Console

from walvec.observe.bars import Bars
from walvec.stages.vitals import BackfillStanding, Standing


def drawn(*standings: Standing) -> list[str]:
    """Return the lines drawn of the last standing, without bars and codes."""
    console = Console(file=(written := io.StringIO()), force_terminal=True, width=120, color_system=None)
    bars = Bars(console)
    # The last one is drawn twice, because adding a line draws too.
    for standing in (*standings, standings[-1]):
        written.truncate(written.seek(0))
        bars.show(standing)
    lines = [re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|━|╸|╺", "", line) for line in written.getvalue().splitlines()]
    bars.close()
    return [" ".join(line.split()) for line in lines if line.strip()]


def backfills(**standings: BackfillStanding) -> Standing:
    """Return a standing of a run without an end."""
    return Standing(standings, 0)


def test_every_backfill_at_work_has_a_line() -> None:
    """A backfill that is done has no line."""
    standing = backfills(
        blog=BackfillStanding("rows", 1200, 10_000),
        page=BackfillStanding("rows", 7, None),
        note=BackfillStanding("sweep", 40, 40),
        mail=BackfillStanding("index", 40, 40),
        done=BackfillStanding("done", 40, 40),
    )
    assert drawn(standing) == [
        "blog rows 1,200 of about 10,000 rows",
        "page rows 7 rows",
        "note sweep looking for rows that are gone",
        "mail index building the vector index",
    ]


def test_a_line_goes_when_its_backfill_ends() -> None:
    """The lines of the other backfills stay."""
    blog, page = BackfillStanding("rows", 1, 2), BackfillStanding("rows", 3, 4)
    over = BackfillStanding("done", 4, 4)
    assert drawn(backfills(blog=blog, page=page), backfills(blog=blog, page=over)) == [
        "blog rows 1 of about 2 rows"
    ]


def test_the_stream_is_shown_once_the_backfills_are_done() -> None:
    """The WAL that a run with an end still has to read is shown."""
    blog = BackfillStanding("rows", 1, 2)
    assert drawn(Standing({"blog": blog}, 4096)) == ["blog rows 1 of about 2 rows"]
    assert drawn(Standing({}, 4096), Standing({}, 1024)) == ["changes stream 1 kB of WAL to go"]
