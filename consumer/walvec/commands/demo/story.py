"""What is shown, in order.

Every number comes from a clock, from walvec's log or from the databases.
"""

from contextlib import ExitStack
from time import perf_counter
from typing import Any

import psycopg
from rich.markup import escape

from walvec.commands.demo import blog
from walvec.commands.demo.burst import EDITS, Burst
from walvec.commands.demo.edits import Editor, Seen
from walvec.commands.demo.proof import Expected, Proof
from walvec.commands.demo.screen import DemoFailed, Screen
from walvec.commands.demo.server import STATEMENTS, Client
from walvec.commands.demo.sidecar import Sidecar
from walvec.config.load import load_config

BACKFILL_LIMIT = 60.0  # seconds
RESULTS = 3  # of each question
_BY_WORDS = {"hashing": ", finds by words"}
QUESTIONS = (
    "how do I handle an exception",
    "change a global variable from within a function",
    "escape sequences in a string",
)

# What is done to which post, by its topic.
_EDITS = (
    ("edit", "edit", blog.EDITED, "\n\nA reader's remark: the tutorial has an example."),
    ("new title", "retitle", blog.RETITLED, "All about strings and bytes"),
    ("unpublish", "unpublish", blog.UNPUBLISHED, None),
    ("publish", "publish", blog.PUBLISHED_LATER, None),
    ("delete", "delete", blog.DELETED, None),
)
_EDIT_COLUMNS = "{:<44} {:>12} {:>20} {:>14}"
TITLE, EXCERPT = 34, 48  # characters of a result
_RESULT_COLUMNS = "{:<10} {:<34} {}"


class Story:
    """One showing, on an empty database."""

    def __init__(self, screen: Screen, sidecar: Sidecar, database: str) -> None:
        self._screen = screen
        self._sidecar = sidecar
        self._database = database
        self._config = load_config(sidecar.config)
        self._expected = Expected(self._config)
        self._posts = blog.write_posts()
        self._ids: dict[str, int] = {}

    def tell(self) -> None:
        """Show all of it. Raises DemoFailed, also where the proof fails."""
        with ExitStack() as stack:
            application, reader = (
                stack.enter_context(psycopg.connect(self._database, autocommit=True)) for _ in range(2)
            )
            editor = Editor(application, reader, self._sidecar, self._expected)
            self._begin(application)
            self._edit_live(editor)
            self._ask(application)
            self._crash(application, reader, editor)

    def _begin(self, application: Client) -> None:
        embedder, version = self._config.embedder, application.info.server_version
        self._screen.title(
            "walvec demo",
            f"PostgreSQL {version // 10_000}.{version % 10_000}, embedder {embedder.model} "
            f"({embedder.dimensions} dimensions{_BY_WORDS.get(embedder.provider, '')})",
        )
        self._screen.chapter("A blog, and walvec beside it")
        existing = {topic: post for topic, post in self._posts.items() if topic != blog.LATER}
        self._ids = dict(zip(existing, blog.create_blog(application, list(existing.values())), strict=True))
        size = sum(len(post.contents) for post in existing.values()) // 1000
        published = sum(post.published for post in existing.values())
        self._screen.fact(
            "table blog",
            f"{len(existing)} posts from Python's own documentation, {size} kB, {published} published",
        )
        self._screen.command("walvec setup")
        self._sidecar.command("setup")
        self._screen.command("walvec run &")
        began = perf_counter()
        self._sidecar.start()
        self._watch_backfill(application, published)
        self._screen.line(
            f"{self._sidecar.tally().texts} texts sent to the embedder, all of it indexed "
            f"{perf_counter() - began:.1f} s after the start"
        )

    def _watch_backfill(self, reader: Client, published: int) -> None:
        with self._screen.progress("embedded", published) as report:

            def done() -> bool:
                ((embedded, phase),) = reader.execute(STATEMENTS["backfill"]).fetchall()
                report(embedded)
                return bool(phase == "done")

            self._sidecar.until(done, "the existing posts are to be embedded", BACKFILL_LIMIT)

    def _edit_live(self, editor: Editor) -> None:
        self._screen.chapter("Live edits, each committed by the application in plain SQL")
        header = _EDIT_COLUMNS.format("", "chunks now", "commit to searchable", "texts sent")
        self._screen.line(f"[dim]{header}[/]")
        new = self._posts[blog.LATER]
        self._show_edit("insert", new.title, editor.insert(new))
        for words, statement, topic, text in _EDITS:
            seen = editor.change(statement, self._ids[topic], text)
            self._show_edit(words, self._posts[topic].title, seen)
        self._show_edit("category", "of all posts, in one update", editor.change_all("recategorise"))

    def _show_edit(self, words: str, post: str, seen: Seen) -> None:
        took = f"{seen.seconds * 1000:.0f} ms"
        line = _EDIT_COLUMNS.format(f"{words:<11} {post}", seen.chunks, took, seen.texts)
        self._screen.line(escape(line))

    def _ask(self, application: Client) -> None:
        self._screen.chapter("Questions")
        for question in QUESTIONS:
            self._screen.command(f'walvec search blog "{question}" -k {RESULTS} --json')
            self._show_results(
                application, self._sidecar.answer("search", "blog", question, "-k", str(RESULTS))
            )
        self._screen.command("walvec status")
        self._sidecar.command("status")

    def _show_results(self, application: Client, results: list[dict[str, Any]]) -> None:
        """Show the nearest chunks with the titles of their posts.

        An application would look these up in the same way.
        """
        ids = [result["key"]["id"] for result in results]
        titles = dict(application.execute(STATEMENTS["titles"], {"ids": ids}).fetchall())
        header = _RESULT_COLUMNS.format("distance", "title", "text")
        self._screen.line(f"[dim]{header}[/]")
        for result, post in zip(results, ids, strict=True):
            text = " ".join(result["chunk"].removeprefix(titles[post]).split())
            line = _RESULT_COLUMNS.format(
                f"{result['distance']:.3f}", _shortened(titles[post], TITLE), _shortened(text, EXCERPT)
            )
            self._screen.line(escape(line))

    def _crash(self, application: Client, reader: Client, editor: Editor) -> None:
        self._screen.chapter(f"kill -9 in a burst of {EDITS} edits of all these kinds")
        outcome = Burst(application, reader, self._sidecar).run(editor, list(self._posts.values()))
        self._screen.fact("burst", f"{EDITS} transactions in {outcome.burst_seconds:.1f} s")
        self._screen.fact(
            "killed", f"process {outcome.killed}, with {outcome.behind} edits committed and not yet embedded"
        )
        self._screen.fact(
            "restarted",
            f"process {outcome.started}, level with the blog {outcome.level_seconds:.1f} s after its start",
        )
        proof = self._expected.compare(reader)
        self._show_proof(proof)
        if not proof.holds:
            raise DemoFailed("The target is not what it has to be")

    def _show_proof(self, proof: Proof) -> None:
        compared = "text, hash and vector" if proof.vectors else "text and hash"
        counts = f"{proof.missing} missing, {proof.stale} stale, {proof.orphaned} orphaned"
        self._screen.fact("blog", f"{proof.posts} posts are published, which makes {proof.chunks} chunks")
        self._screen.fact("target", f"{proof.embedded} posts are embedded, in {proof.held} chunks")
        self._screen.fact("proof", f"[bold]{counts}[/], by {compared} of every chunk")


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
