"""A row's text in, its chunks out, each with a hash that tells it unchanged.

Chunks end at sentences, lines and paragraphs where the size allows it, at words and grapheme clusters where
it does not (Unicode's segmentation rules, by semantic-text-splitter). The same text always gives the same
chunks: only because of that, the repeat after a crash and the update of another column cost nothing.

Pure: values in, values out.
"""

import re
from hashlib import blake2b

from semantic_text_splitter import TextSplitter

# The splitter's time grows with the square of its input: seconds for 30,000 characters of Chinese without
# punctuation, minutes for as much white space in blank lines. So it gets a few chunks' worth at a time.
WINDOW_CHUNKS = 4
WINDOW_MIN = 1_024  # characters

# A border, whatever lies around it.
_GAP = re.compile(r"\s{200,}")

HASH_BYTES = 16


class Chunker:
    """Cuts text into chunks of at most `size` characters.

    Neighbours share up to `overlap` characters. `size` None: a text is one chunk, as it is. A chunker may be
    shared between threads; the splitter releases the GIL.
    """

    __slots__ = ("_size", "_splitter", "_window")

    def __init__(self, size: int | None = None, overlap: int = 0) -> None:
        self._size = size
        if size is not None:
            self._splitter = TextSplitter(size, overlap=overlap)
            self._window = max(WINDOW_MIN, WINDOW_CHUNKS * size)

    def is_long(self, text: str) -> bool:
        """Whether cutting the text takes more than a look at it."""
        return self._size is not None and len(text) > self._size

    def split(self, text: str) -> list[str]:
        """Return the chunks in order, without white space at their ends.

        A blank text has none.
        """
        stripped = text.strip()
        if not stripped:
            return []
        if self._size is None:
            return [text]
        if len(stripped) <= self._size:
            return [stripped]
        sections = _GAP.split(stripped)
        return [chunk for section in sections for piece in self._pieces(section) if (chunk := piece.strip())]

    def _pieces(self, text: str) -> list[str]:
        """Split window by window, so that the time is linear in the text.

        50 MB in one row must not take hours. A window's last chunk was cut by the window's end and not at a
        border, so the next window starts where that chunk did, overlap included.
        """
        pieces: list[str] = []
        start = 0
        while len(text) - start > self._window:
            found = self._splitter.chunk_indices(text[start : start + self._window])
            if len(found) > 1:
                pieces += [piece for _, piece in found[:-1]]
                start += found[-1][0]
            else:
                # The rest of the window is white space.
                pieces += [piece for _, piece in found]
                start += self._window
        return pieces + self._splitter.chunks(text[start:])


def split(text: str, size: int, overlap: int) -> list[str]:
    """Cut one text; see `Chunker`, which is cheaper for many."""
    return Chunker(size, overlap).split(text)


class InputHasher:
    """Hashes the whole input of an embedding: model, dimensions and text.

    Equal hashes mean that the target's vector can stay. The model's length comes first, so that no two inputs
    give the same bytes.
    """

    __slots__ = ("_prefix",)

    def __init__(self, model: str, dimensions: int) -> None:
        name = model.encode()
        self._prefix = blake2b(b"%d:%b:%d:" % (len(name), name, dimensions), digest_size=HASH_BYTES)

    def __call__(self, text: str) -> bytes:
        """Return the 16 bytes of `input_hash` for a chunk."""
        state = self._prefix.copy()
        state.update(text.encode())
        return state.digest()


def input_hash(model: str, dimensions: int, text: str) -> bytes:
    """Hash one input; see `InputHasher`, which is cheaper for many."""
    return InputHasher(model, dimensions)(text)
