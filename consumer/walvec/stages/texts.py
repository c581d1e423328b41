"""From a segment's actions to its rows' texts, slice by slice.

A segment is bounded by what arrived, which says little of what it becomes: an action that reads a row by its
key is small, its row may not be, and each chunk gets a vector. So its rows are worked on in slices, each as
heavy as a slice may be, and a text is weighed as soon as it is read.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import getsizeof
from typing import TypeVar

from walvec.database.keys import Key
from walvec.errors import EvaluationFailed
from walvec.policy import retry_in_place
from walvec.stages.actions import Action, Delete, Found, Refetch, Upsert
from walvec.stages.evaluate import RowText, SourceReader
from walvec.vectorizer.binding import Binding

# Bytes that a chunk takes besides its text and its vector: hash, tuples, list entries.
_CHUNK_BYTES = 500

_VALUE_BYTES = 4  # of a vector

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Weigher:
    """What a text weighs in memory, with its chunks and vectors, until it is written."""

    def __init__(self, binding: Binding, dimensions: int) -> None:
        """Weigh texts as `binding` cuts them, with vectors of `dimensions`."""
        chunk = binding.vectorizer.chunk
        self._per_chunk = _CHUNK_BYTES + _VALUE_BYTES * dimensions
        # Without a size a text is one chunk.
        self._size = self._step = 0
        if chunk != "none":
            self._size = chunk.size
            # A chunk shares its overlap with the one before. It holds `size` characters and adds `step`.
            self._step = max(chunk.size - chunk.overlap, 1)

    def of_size(self, size: int) -> int:
        """Weigh a text of `size` bytes, before it is known."""
        if not self._step or size <= self._size:
            return size + self._per_chunk
        chunks = size // self._step + 1
        return size + chunks * (self._size + self._per_chunk)

    def __call__(self, text: RowText) -> int:
        """Weigh a text; a row without one weighs nothing."""
        return self.of_size(getsizeof(text)) if text else 0


@dataclass(slots=True)
class Slice:
    """Some rows of a segment: their texts, and the failures of those that have none."""

    texts: dict[Key, RowText] = field(default_factory=dict)
    failures: dict[Key, EvaluationFailed] = field(default_factory=dict)

    # Bytes that the texts will weigh, with their chunks and vectors.
    weight: int = 0

    def put(self, key: Key, text: RowText, weight: int) -> None:
        """Add a row's text, in the place of what was known of its key."""
        self.texts[key] = text
        self.weight += weight

    def put_failure(self, key: Key, failure: EvaluationFailed) -> None:
        """Add a row on which an expression fails."""
        self.failures[key] = failure

    def keys(self) -> list[Key]:
        """Return the keys of all its rows."""
        return [*self.texts, *self.failures]

    def take_texts(self) -> dict[Key, RowText]:
        """Return the texts and forget them: they may be large."""
        texts, self.texts = self.texts, {}
        return texts


class Texts:
    """The texts of a segment's rows: known ones, then by images, then by key.

    Rows that are known to be gone all come in the first slice. Of keys that are equal and spelled differently
    (1.0 and 1.00), the one that goes has to go before the other comes.
    """

    def __init__(
        self,
        source: SourceReader,
        binding: Binding,
        actions: Mapping[Key, Action],
        weigh: Weigher,
        limit: int,
    ) -> None:
        """Read through `source`, in slices that weigh about `limit` bytes."""
        self._source = source
        self._binding = binding
        self._weigh = weigh
        self._limit = limit
        self._gone = [key for key, action in actions.items() if isinstance(action, Delete)]
        self._found = [(key, action.text) for key, action in actions.items() if isinstance(action, Found)]
        self._images = [(key, action) for key, action in actions.items() if isinstance(action, Upsert)]
        self._keys = [key for key, action in actions.items() if isinstance(action, Refetch)]
        self._rows = len(actions)

        # How many rows are evaluated at once: fewer where one of them fails.
        self._together = len(actions)

    @property
    def done(self) -> bool:
        """Whether every row was in a slice."""
        return not (self._gone or self._found or self._images or self._keys)

    def estimate_slice(self) -> int:
        """Return what the next slice may weigh, before it is read."""
        if self._keys:
            return self._limit
        known = sum(self._weigh(text) for _, text in self._found)
        return min(self._limit, known + sum(self._weigh.of_size(image.size) for _, image in self._images))

    async def next_slice(self) -> Slice:
        """Return the next slice; of one row at least, while there is any."""
        part = Slice(dict.fromkeys(self._gone))
        self._gone = []
        self._take_found(part)
        while self._images and part.weight < self._limit:
            await self._evaluate_images(part)
        while self._keys and part.weight < self._limit:
            await self._read_rows(part)
        return part

    def _take_found(self, part: Slice) -> None:
        count = 0
        for key, text in self._found:
            if part.weight >= self._limit:
                break
            self._put(part, key, text)
            count += 1
        del self._found[:count]

    async def _evaluate_images(self, part: Slice) -> None:
        """Evaluate the next images.

        An image that fails may be of an older definition of the table: then the row as it is now decides.
        """
        images = self._images[: self._rows_left(part)]

        async def evaluate(some: Sequence[tuple[Key, Upsert]], size: int) -> list[RowText]:
            return await self._source.evaluate_images(
                self._binding, [action.image for _, action in some], size=size
            )

        results = await self._try_items(images, evaluate, part)
        for (key, _), result in zip(images, results, strict=False):
            if isinstance(result, EvaluationFailed):
                self._keys.append(key)
            else:
                self._put(part, key, result)
        del self._images[: len(results)]

    async def _read_rows(self, part: Slice) -> None:
        keys = self._keys[: self._rows_left(part)]

        async def read(some: Sequence[Key], size: int) -> list[tuple[Key | None, RowText]]:
            return await retry_in_place(self._source.rows_by_key, self._binding, some, size=size)

        results = await self._try_items(keys, read, part)
        for key, result in zip(keys, results, strict=False):
            if not isinstance(result, EvaluationFailed):
                self._put_row(part, key, *result)
            elif await self._source.can_be_key(self._binding, key):
                part.put_failure(key, result)
        del self._keys[: len(results)]

    def _put_row(self, part: Slice, wanted: Key, found: Key | None, text: RowText) -> None:
        """Put the row that was found for a key, under its own key.

        Where equal keys always have equal text, a key that is spelled differently is of the type that the
        table's key had before it was altered. The alteration waited until every change before it was visible,
        so the comparison that followed has read the row.
        """
        if found in (wanted, None):
            self._put(part, wanted, text)
        elif found and not self._binding.relation.key_is_canonical:
            self._put(part, wanted, None)
            self._put(part, found, text)

    async def _try_items(
        self,
        items: Sequence[_Item],
        read: Callable[[Sequence[_Item], int], Awaitable[list[_Result]]],
        part: Slice,
    ) -> Sequence[_Result | EvaluationFailed]:
        """Return the outcome of the first items, of one at least.

        Where an expression fails, half as many are tried, down to the one that fails. After that, more are
        tried again.
        """
        size = self._text_bytes(self._limit - part.weight)
        while True:
            try:
                found = await read(items, size)
            except EvaluationFailed as error:
                if len(items) == 1:
                    return [error]
                items = items[: len(items) // 2]
                self._together = len(items)
            else:
                self._together = min(2 * self._together, self._rows)
                return found

    def _rows_left(self, part: Slice) -> int:
        """Return how many more rows a slice may hold, however short their texts are."""
        return min(self._together, max((self._limit - part.weight) // self._weigh.of_size(0), 1))

    def _text_bytes(self, weight: int) -> int:
        """Return how many bytes of long text have this weight."""
        return max(weight * self._limit // max(self._weigh.of_size(self._limit), 1), 1)

    def _put(self, part: Slice, key: Key, text: RowText) -> None:
        part.put(key, text, self._weigh(text))
