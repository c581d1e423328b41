"""Text -> vector: what every embedding provider looks like to the rest, and the way to one.

A provider sends one request and answers it, or raises one of `errors`; it never waits and never tries
again. `dispatch` drives it. A provider on another machine, or on many of them, has to fit this Protocol and
nothing more.
"""

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from walvec_slots.errors import PreconditionFailed

# Typecode "f": native float32, as many as the configured dimensions.
if TYPE_CHECKING:
    Vector = array[float]
else:
    Vector = array  # generic at run time from Python 3.12 on


class Answer(NamedTuple):
    """Vectors in the order of the texts, and the tokens that the service counted, if it says so."""

    vectors: list[Vector]
    tokens: int | None


class Embedder(Protocol):
    """One embedding provider, ready to be asked; safe for concurrent requests."""

    @property
    def name(self) -> str:
        """The provider, as configured."""

    @property
    def model(self) -> str:
        """The model, as configured."""

    @property
    def dimensions(self) -> int:
        """The length of its vectors."""

    async def embed(self, texts: Sequence[str]) -> Answer:
        """Send the texts as one request.

        Raises EmbeddingError. The answer is not checked yet: `dispatch` does that, for all providers alike.
        """

    async def aclose(self) -> None:
        """Give back connections."""


class Settings(Protocol):
    """The `[embedder]` section, as far as providers and `dispatch` read it."""

    @property
    def provider(self) -> str:
        """mistral, openai, local, hashing or python."""

    @property
    def model(self) -> str:
        """The model; for python, module:function."""

    @property
    def dimensions(self) -> int:
        """The length of a vector."""

    @property
    def base_url(self) -> str | None:
        """Another server of the same API; None: the provider's own."""

    @property
    def api_key_env(self) -> str | None:
        """The environment variable that holds the key."""

    @property
    def max_batch_inputs(self) -> int:
        """The most texts in a request."""

    @property
    def max_batch_tokens(self) -> int:
        """The most tokens in a request."""

    @property
    def concurrency(self) -> int:
        """The most requests in flight."""

    @property
    def requests_per_second(self) -> float:
        """The most requests started in a second; 0: no limit."""

    @property
    def timeout(self) -> float:
        """Seconds that a request may take."""


def open_embedder(settings: Settings) -> Embedder:
    """Make the configured provider's embedder; nothing is sent yet.

    Only that provider's module is imported, and one that comes with an HTTP client not before it is used.
    Raises PreconditionFailed if the key's environment variable, the local model or the user's function isn't
    there.
    """
    match settings.provider:
        case "mistral" | "openai":
            from walvec.embed.late import LateEmbedder

            return LateEmbedder(settings)
        case "local":
            from walvec.embed.local import LocalEmbedder

            return LocalEmbedder(settings)
        case "hashing":
            from walvec.embed.hashing import HashingEmbedder

            return HashingEmbedder(settings.model, settings.dimensions)
        case "python":
            from walvec.embed.python import PythonEmbedder

            return PythonEmbedder(settings)
        case unknown:
            raise PreconditionFailed(
                f"there is no embedding provider {unknown!r}",
                hint="set [embedder] provider to mistral, openai, local, hashing or python",
            )
