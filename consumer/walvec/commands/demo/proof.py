"""Proves the target: what it has to hold, against what it holds.

Chunks are compared by place and text and by the hash of what was embedded; with an embedder that needs no
service the vectors are made again too, number for number.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass

from walvec.commands.demo.server import STATEMENTS, Client
from walvec.config.load import Config
from walvec.embed.hashing import embed_text
from walvec.embed.local import embed_locally, load_model
from walvec.embed.protocol import Vector
from walvec.stages.chunk import Chunker, InputHasher

Place = tuple[int, int]  # id, chunk_seq


@dataclass(frozen=True, slots=True)
class Proof:
    """Counts of one comparison."""

    posts: int  # published
    # Posts with a chunk in the target.
    embedded: int
    chunks: int  # that the published posts have
    held: int  # chunks in the target
    missing: int  # chunks
    # Chunks whose text, hash or vector is of another text.
    stale: int
    # Chunks of deleted or unpublished posts, or past a post's end.
    orphaned: int
    # Whether vectors were compared as well.
    vectors: bool

    @property
    def holds(self) -> bool:
        """Whether the target is what it has to be."""
        return not (self.missing or self.stale or self.orphaned)


class Expected:
    """What the target has to hold: published posts' title and contents, in chunks."""

    def __init__(self, config: Config) -> None:
        vectorizer = config.vectorizer("blog")
        assert vectorizer is not None
        assert vectorizer.chunk != "none"
        self._split = Chunker(vectorizer.chunk.size, vectorizer.chunk.overlap).split
        self._hash = InputHasher(config.embedder.model, config.embedder.dimensions)
        self._embed = _local_embedding(config)

    def of_post(self, connection: Client, post: int) -> list[str]:
        """One post's chunks, none if it is not published or not there."""
        rows = connection.execute(STATEMENTS["published_post"], {"id": post})
        return [chunk for _, title, contents in rows for chunk in self._chunks(title, contents)]

    def compare(self, connection: Client) -> Proof:
        """Compare source and target as one snapshot sees them."""
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            published = connection.execute(STATEMENTS["published_posts"]).fetchall()
            held = {(post, seq): rest for post, seq, *rest in connection.execute(STATEMENTS["target"])}
        wanted: dict[Place, str] = {
            (post, seq): chunk
            for post, title, contents in published
            for seq, chunk in enumerate(self._chunks(title, contents))
        }
        return Proof(
            posts=len(published),
            embedded=len({post for post, _ in held}),
            chunks=len(wanted),
            held=len(held),
            missing=len(wanted.keys() - held.keys()),
            stale=sum(not self._is_of(wanted[place], *held[place]) for place in wanted.keys() & held.keys()),
            orphaned=len(held.keys() - wanted.keys()),
            vectors=self._embed is not None,
        )

    def _chunks(self, title: str, contents: str) -> list[str]:
        return self._split(f"{title}\n\n{contents}")

    def _is_of(self, text: str, chunk: str, input_hash: bytes, vector: list[float]) -> bool:
        if chunk != text or input_hash != self._hash(text):
            return False
        return self._embed is None or array("f", vector) == self._embed(text)


def _local_embedding(config: Config) -> Callable[[str], Vector] | None:
    """Return what makes a text's vector again.

    None where that would be another call to a service.
    """
    match config.embedder.provider:
        case "hashing":
            return lambda text: embed_text(text, config.embedder.dimensions)
        case "local":
            model = load_model()
            return lambda text: embed_locally(model, [text]).vectors[0]
        case _:
            return None
