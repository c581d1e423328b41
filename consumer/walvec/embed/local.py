"""Embeds by meaning with WordLlama's token vectors, read from its files.

No network, no key; English only.

    text -> tokens -> the mean of their vectors -> unit length

Its package (extra `local`) holds the files; of its code nothing is imported, because it looks for the
tokenizer in a folder that does not exist and then asks a model hub. The files are checked by their SHA-256
before they are read, since what they hold decides every vector in the target.
"""

import asyncio
from array import array
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from walvec.embed.protocol import Answer, Settings, Vector
from walvec_slots.errors import PreconditionFailed

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

LOCAL_MODEL: Final = "wordllama-l2-supercat-256"
LOCAL_DIMENSIONS: Final = 256
INSTALL_LOCAL: Final = "pip install 'walvec[local]'"

TOKENIZER: Final = "tokenizers/l2_supercat_tokenizer_config.json"
WEIGHTS: Final = "weights/l2_supercat_256.safetensors"

# Of wordllama 0.4.0.post1.
_SHA256: Final = {
    TOKENIZER: "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
    WEIGHTS: "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
}
# Tokens whose vectors are gathered at once: 4 MB.
_SLICE: Final = 4_096
# The token that stands for a text without any: no vector may be zero.
_UNKNOWN: Final = 0


class Model(NamedTuple):
    """The model, which a process reads once."""

    tokenizer: "Tokenizer"
    vectors: "NDArray[float32]"  # a row a token


class LocalEmbedder:
    """Embeds texts in a thread; the tokenizer releases the interpreter's lock.

    Raises PreconditionFailed if the extra is not installed, or if its files are not the known ones.
    """

    name = "local"

    def __init__(self, settings: Settings) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        self._model = load_model()

    async def embed(self, texts: Sequence[str]) -> Answer:
        """Embed the texts; a text's vector does not depend on the others. See `Embedder`."""
        return await asyncio.to_thread(embed_locally, self._model, texts)

    async def aclose(self) -> None:
        """Do nothing: there is no connection to close."""


def has_local_model() -> bool:
    """Whether the extra `local` is installed."""
    return all(map(find_spec, ("numpy", "safetensors", "tokenizers", "wordllama")))


@cache
def load_model() -> Model:
    """Read and check the files. Raises PreconditionFailed."""
    package = find_spec("wordllama")
    if package is None or not package.submodule_search_locations or not has_local_model():
        raise PreconditionFailed("The embedder local needs the extra local", hint=f"run: {INSTALL_LOCAL}")
    folder = Path(package.submodule_search_locations[0])
    tokenizer, weights = read_checked(folder, TOKENIZER), read_checked(folder, WEIGHTS)

    import numpy as np
    from safetensors.numpy import load
    from tokenizers import Tokenizer

    vectors = load(weights)["embedding.weight"].astype(np.float32)
    return Model(Tokenizer.from_str(tokenizer.decode()), vectors)


def read_checked(folder: Path, file: str) -> bytes:
    """Read a file of the model. Raises PreconditionFailed unless it is the known one."""
    try:
        content = (folder / file).read_bytes()
    except OSError as error:
        found = error.strerror or "cannot be read"
    else:
        if sha256(content).hexdigest() == _SHA256[file]:
            return content
        found = "its SHA-256 is another one"
    raise PreconditionFailed(
        f"wordllama's {file} is not the file of version 0.4.0.post1 ({found})",
        hint=f"run: {INSTALL_LOCAL} --force-reinstall",
    )


def embed_locally(model: Model, texts: Sequence[str]) -> Answer:
    """Embed the texts, and count their tokens."""
    tokens = [
        encoding.ids for encoding in model.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    ]
    return Answer([_mean(model.vectors, ids or [_UNKNOWN]) for ids in tokens], sum(map(len, tokens)))


def _mean(vectors: "NDArray[float32]", tokens: Sequence[int]) -> Vector:
    """Return the direction of the tokens' mean.

    The order of adding is fixed, and so is every bit.
    """
    total = vectors[tokens[:_SLICE]].sum(axis=0)
    for start in range(_SLICE, len(tokens), _SLICE):
        total += vectors[tokens[start : start + _SLICE]].sum(axis=0)
    vector = array("f")
    vector.frombytes((total / (total * total).sum() ** 0.5).tobytes())
    return vector
