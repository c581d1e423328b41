"""The blog: its table, and Python's own language topics as its posts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from walvec.commands.demo.screen import DemoFailed
from walvec.commands.demo.server import STATEMENTS, Client

AUTHORS = ("Ada", "Grace", "Edsger")

# Topics by the part they play, all of them in every Python from 3.11 on.
LATER = "try"  # written while walvec runs
# Three repeat others, section by section.
DRAFTS = ("compound", "execmodel", "specialnames", "comparisons")
PUBLISHED_LATER = "comparisons"
EDITED = "import"
RETITLED = "strings"
UNPUBLISHED = "debugger"
DELETED = "formatstrings"

_HEADING = re.compile(r"(?P<title>[^\n]+)\n(?P<rule>[*=-])(?P=rule)+\n+")


@dataclass(frozen=True, slots=True)
class Post:
    """One post before it is in the table."""

    title: str
    author: str
    contents: str
    category: str
    published: bool

    def row(self) -> dict[str, object]:
        """The parameters of insert_post."""
        return {name: getattr(self, name) for name in self.__slots__}


def write_posts() -> dict[str, Post]:
    """Make a post of each topic, by the topic's name.

    Of two topics with one text (if, else) the first.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DemoFailed("This Python comes without its language topics (pydoc_data.topics)") from None
    unique = {text: topic for topic, text in sorted(topics.items(), reverse=True)}
    authors = cycle(AUTHORS)
    posts = {topic: _post(topic, text, next(authors)) for text, topic in reversed(unique.items())}
    needed = {LATER, PUBLISHED_LATER, EDITED, RETITLED, UNPUBLISHED, DELETED}
    if missing := needed - posts.keys():
        raise DemoFailed(f"This Python's language topics lack {', '.join(sorted(missing))}")
    return posts


def _post(topic: str, text: str, author: str) -> Post:
    heading = _HEADING.match(text)
    title = heading["title"] if heading else topic
    category = "statements" if "statement" in title else "reference"
    return Post(title, author, text[heading.end() if heading else 0 :], category, topic not in DRAFTS)


def create_blog(application: Client, posts: Sequence[Post]) -> list[int]:
    """Create the table with the posts, and return their ids."""
    application.execute(STATEMENTS["create_blog"])
    with application.transaction():
        return [insert_post(application, post) for post in posts]


def insert_post(application: Client, post: Post) -> int:
    """Insert one post and return its id."""
    row = application.execute(STATEMENTS["insert_post"], post.row()).fetchone()
    assert row is not None
    return int(row[0])
