"""Text -> vector: the Protocol of every embedding provider, and how to open one.

A provider sends one request and returns the answer, or raises one of `errors`; it never waits and never
retries: `dispatch` does. A provider that runs on another machine, or on many, has to fit this Protocol and
nothing else.
"""

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from walvec_slots.errors import PreconditionFailed

# Typecode "f": native float32, as many as the configured dimensions. The class is generic at run time only
# from Python 3.12 on.
if TYPE_CHECKING:
    Vector = array[float]
else:
    Vector = array


class Answer(NamedTuple):
    """Vectors in the order of the texts, and the tokens that the service counted.

    `tokens` is None where the service does not count them.
    """

    vectors: list[Vector]
    tokens: int | None


class Embedder(Protocol):
    """One embedding provider, ready for requests, of which several may run at once."""

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

        Raises EmbeddingError. The answer is not checked yet: `service` does that for all providers.
        """

    async def aclose(self) -> None:
        """Close the connections."""


class Settings(Protocol):
    """The part of the `[embedder]` section that providers and `dispatch` read."""

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
        """Another server of the same API; None means the provider's own."""

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
        """The most requests started in a second; 0 means no limit."""

    @property
    def timeout(self) -> float:
        """Seconds that a request may take."""


def open_embedder(settings: Settings) -> Embedder:
    """Make the configured provider's embedder; nothing is sent yet.

    Only that provider's module is imported; a provider with an HTTP client is imported on its first request.
    Raises PreconditionFailed if the key's environment variable, the local model or the user's function is
    missing.
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
                f'Unknown embedding provider "{unknown}"',
                hint="set [embedder] provider to mistral, openai, local, hashing or python",
            )
