"""Edits the blog live, each edit watched until a search would find it."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from walvec.commands.demo import blog
from walvec.commands.demo.blog import Post
from walvec.commands.demo.proof import Expected
from walvec.commands.demo.server import STATEMENTS, Client
from walvec.commands.demo.sidecar import LogTally, Sidecar


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one edit."""

    # From the return of its commit until a search would see it.
    seconds: float
    # Of the post, or of all posts, afterwards.
    chunks: int
    texts: int  # sent to the embedder


class Editor:
    """The application that writes the blog, and beside it a reader of the target."""

    def __init__(self, application: Client, reader: Client, sidecar: Sidecar, expected: Expected) -> None:
        self._application = application
        self._reader = reader
        self._sidecar = sidecar
        self._expected = expected

    def insert(self, post: Post) -> Seen:
        """Write a post."""
        return self._watch(lambda: blog.insert_post(self._application, post))

    def change(self, statement: str, post: int, text: str | None = None) -> Seen:
        """Change or delete one post, by a statement of sql/demo.sql."""

        def edit() -> int:
            self._application.execute(STATEMENTS[statement], {"id": post, "text": text})
            return post

        return self._watch(edit)

    def change_all(self, statement: str) -> Seen:
        """Change all posts in a way that shows in no vector.

        Watched until walvec is done with them.
        """
        before = self._sidecar.tally()
        rows = self._application.execute(STATEMENTS[statement]).rowcount
        committed = perf_counter()
        texts = self._texts_since(before, rows)
        seconds = perf_counter() - committed
        ((chunks,),) = self._reader.execute(STATEMENTS["count_target"]).fetchall()
        return Seen(seconds, chunks, texts)

    def _watch(self, edit: Callable[[], int]) -> Seen:
        before = self._sidecar.tally()
        with self._application.transaction():
            post = edit()
            wanted = self._expected.of_post(self._application, post)
        committed = perf_counter()
        self._sidecar.until(lambda: self._held(post) == wanted, "an edit is to be searchable")
        return Seen(perf_counter() - committed, len(wanted), self._texts_since(before, rows=1))

    def _texts_since(self, before: LogTally, rows: int) -> int:
        """Wait until walvec's log has the rows; return how many texts they took."""
        self._sidecar.until(
            lambda: self._sidecar.tally().rows - before.rows >= rows, "the batch is to be in walvec's log"
        )
        return self._sidecar.tally().texts - before.texts

    def _held(self, post: int) -> list[str]:
        return [chunk for (chunk,) in self._reader.execute(STATEMENTS["target_of_post"], {"id": post})]
