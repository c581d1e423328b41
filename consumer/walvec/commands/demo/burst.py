"""A burst of edits, during which walvec is killed and started again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from time import perf_counter

from walvec.commands.demo import blog
from walvec.commands.demo.blog import Post
from walvec.commands.demo.edits import Editor
from walvec.commands.demo.server import STATEMENTS, Client
from walvec.commands.demo.sidecar import Sidecar, saved_position, wal_position
from walvec_slots.lsn import Lsn

EDITS = 400
KILL_AT, RESTART_AT = 150, 250
SEED = 1

_KINDS = {"edit": 45, "retitle": 10, "insert": 15, "unpublish": 10, "publish": 10, "delete": 10}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened."""

    killed: int  # the process
    started: int  # the one after it
    # Edits that were committed and not yet embedded when it was killed.
    behind: int
    # From the first commit to the last.
    burst_seconds: float
    # From the start of the second process until the last edit was searchable.
    level_seconds: float


class Burst:
    """Random edits, the same ones in every demo, one transaction each."""

    def __init__(self, application: Client, reader: Client, sidecar: Sidecar) -> None:
        self._application = application
        self._reader = reader
        self._sidecar = sidecar
        self._random = Random(SEED)
        self._ids = [post for (post,) in application.execute(STATEMENTS["post_ids"])]

    def run(self, editor: Editor, posts: Sequence[Post]) -> Outcome:
        """Edit, kill and restart walvec, and go on until the last edit is searchable."""
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
                self._ids.append(blog.insert_post(self._application, new))
            case "edit":
                text = f"\n\nRemark {number}, written during the burst."
                self._application.execute(STATEMENTS[kind], {"id": post, "text": text})
            case "retitle":
                text = f"Title {number} of the burst"
                self._application.execute(STATEMENTS[kind], {"id": post, "text": text})
            case _:
                self._application.execute(STATEMENTS[kind], {"id": post})
        if kind == "delete":
            self._ids.remove(post)

    def _count_behind(self, places: Sequence[Lsn]) -> int:
        """Count the edits past the checkpoint, once no session can move it."""
        self._sidecar.until(
            lambda: self._reader.execute(STATEMENTS["walvec_sessions"], {}).fetchone() == (0,),
            "the killed walvec's sessions end",
        )
        saved = saved_position(self._reader)
        return sum(place >= saved for place in places)
