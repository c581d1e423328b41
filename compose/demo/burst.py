"""A burst of edits, in the middle of which walvec is killed, and later on started again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from time import perf_counter

from compose.demo import blog, edits
from compose.demo.blog import Post
from compose.demo.edits import Editor
from compose.demo.server import Connection
from compose.demo.sidecar import Sidecar, checkpoint, wal_position
from walvec_slots.lsn import Lsn

EDITS = 400
KILL_AT, RESTART_AT = 150, 250
SEED = 1

_KINDS = {"edit": 45, "retitle": 10, "insert": 15, "unpublish": 10, "publish": 10, "delete": 10}
_STATEMENTS = {"unpublish": edits.UNPUBLISH, "publish": edits.PUBLISH, "delete": edits.DELETE}
_WALVECS_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'walvec %'
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened."""

    killed: int  # the process
    started: int  # the one after it
    behind: int  # edits that were committed and not yet embedded when it was killed
    burst_seconds: float  # from the first commit to the last
    level_seconds: float  # from the start of the second process until the last edit was searchable


class Burst:
    """Random edits, the same ones in every demo, one transaction each."""

    def __init__(self, application: Connection, reader: Connection, sidecar: Sidecar) -> None:
        self._application = application
        self._reader = reader
        self._sidecar = sidecar
        self._random = Random(SEED)
        self._ids = [post for (post,) in application.execute("SELECT id FROM blog ORDER BY id")]

    def run(self, editor: Editor, posts: Sequence[Post]) -> Outcome:
        """Edit on, whatever becomes of walvec; end when the last edit, a new post, is searchable."""
        killed = started = behind = 0
        began = restarted = perf_counter()
        places: list[Lsn] = []
        for number in range(EDITS):
            if number == KILL_AT:
                killed = self._sidecar.kill()
                behind = self._count_behind(places)
            if number == RESTART_AT:
                restarted = perf_counter()
                started = self._sidecar.start()
            places.append(wal_position(self._application))
            self._edit(number, posts)
        ended = perf_counter()
        editor.insert(replace(posts[0], title="The last edit of the burst", published=True))
        return Outcome(killed, started, behind, ended - began, perf_counter() - restarted)

    def _edit(self, number: int, posts: Sequence[Post]) -> None:
        (kind,) = self._random.choices(list(_KINDS), list(_KINDS.values()))
        post = self._random.choice(self._ids)
        match kind:
            case "insert":
                new = replace(self._random.choice(posts), title=f"Post {number} of the burst")
                self._ids.append(blog.insert(self._application, new))
            case "edit":
                text = f"\n\nRemark {number}, written during the burst."
                self._application.execute(edits.EDIT, {"id": post, "text": text})
            case "retitle":
                self._application.execute(edits.RETITLE, {"id": post, "text": f"Title {number} of the burst"})
            case _:
                self._application.execute(_STATEMENTS[kind], {"id": post})
        if kind == "delete":
            self._ids.remove(post)

    def _count_behind(self, places: Sequence[Lsn]) -> int:
        """Count the edits that begin past the checkpoint, once nothing of walvec is left to move it."""
        self._sidecar.until(
            lambda: self._reader.execute(_WALVECS_SESSIONS).fetchone() == (0,),
            "the killed walvec's sessions end",
        )
        saved = checkpoint(self._reader)
        return sum(place >= saved for place in places)
