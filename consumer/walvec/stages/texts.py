"""From a segment's actions to its rows' texts, slice by slice.

A segment is bounded by what arrived, which says little of what it becomes: an action that reads a row by its
key is small, its row may not be, and each chunk gets a vector. So its rows are worked on in slices, each as
heavy as a slice may be, and what a text will weigh in memory is worked out as soon as it is read.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import getsizeof
from typing import TypeVar

from walvec.database.keys import Key
from walvec.errors import EvaluationFailed
from walvec.policy import in_place
from walvec.stages.actions import Action, Delete, Found, Refetch, Upsert
from walvec.stages.evaluate import RowText, SourceReader
from walvec.vectorizer.binding import Binding

_CHUNK_BYTES = 500  # what a chunk takes besides its text and its vector: hash, tuples, list entries
_VALUE_BYTES = 4  # of a vector

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Weigher:
    """What a text will weigh in memory, with its chunks and their vectors, until they are written."""

    def __init__(self, binding: Binding, dimensions: int) -> None:
        """Weigh as `binding` cuts texts, for vectors of so many dimensions."""
        chunk = binding.vectorizer.chunk
        self._per_chunk = _CHUNK_BYTES + _VALUE_BYTES * dimensions
        self._size = self._step = 0  # one chunk a text
        if chunk != "none":
            self._size = chunk.size
            # A chunk shares its overlap with the one before: it holds `size` characters and adds `step`.
            self._step = max(chunk.size - chunk.overlap, 1)

    def of_size(self, size: int) -> int:
        """Weigh a text of so many bytes, before it is known."""
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
    weight: int = 0


class Texts:
    """The texts of a segment's rows: first what is known, then by images, then by key.

    Rows that are known to be gone come in the first slice, all of them: of keys that are equal and written
    differently (1.0 and 1.00), the one that goes has to go before the other comes.
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
        self._rows = self._together = len(actions)  # evaluated at once: fewer where one of them fails

    @property
    def done(self) -> bool:
        """Whether every row was in a slice."""
        return not (self._gone or self._found or self._images or self._keys)

    def estimate(self) -> int:
        """Return what the next slice may weigh, before it is read."""
        if self._keys:
            return self._limit
        known = sum(self._weigh(text) for _, text in self._found)
        return min(self._limit, known + sum(self._weigh.of_size(image.size) for _, image in self._images))

    async def next(self) -> Slice:
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
        """An image that fails may be of an older definition of the table: what the row is now decides."""
        images = self._images[: self._most(part)]

        async def evaluate(some: Sequence[tuple[Key, Upsert]], size: int) -> list[RowText]:
            return await self._source.evaluate(self._binding, [action.image for _, action in some], size=size)

        results = await self._try(images, evaluate, part)
        for (key, _), result in zip(images, results, strict=False):
            if isinstance(result, EvaluationFailed):
                self._keys.append(key)
            else:
                self._put(part, key, result)
        del self._images[: len(results)]

    async def _read_rows(self, part: Slice) -> None:
        keys = self._keys[: self._most(part)]

        async def read(some: Sequence[Key], size: int) -> list[tuple[Key | None, RowText]]:
            return await in_place(self._source.by_key, self._binding, some, size=size)

        results = await self._try(keys, read, part)
        for key, result in zip(keys, results, strict=False):
            if not isinstance(result, EvaluationFailed):
                self._put_row(part, key, *result)
            elif await self._source.can_be_key(self._binding, key):
                part.failures[key] = result
        del self._keys[: len(results)]

    def _put_row(self, part: Slice, wanted: Key, found: Key | None, text: RowText) -> None:
        """Put the row that was found for a key, under its own key.

        Where equal keys always have equal text, one that is spelled differently is of another type, as it was
        before the table's key was altered. That waited for every change of before to be visible: the
        comparison that followed has read the row.
        """
        if found in (wanted, None):
            self._put(part, wanted, text)
        elif found and not self._binding.relation.key_is_canonical:
            self._put(part, wanted, None)
            self._put(part, found, text)

    async def _try(
        self,
        items: Sequence[_Item],
        read: Callable[[Sequence[_Item], int], Awaitable[list[_Result]]],
        part: Slice,
    ) -> Sequence[_Result | EvaluationFailed]:
        """Return the outcome of the first items, of one at least.

        Where an expression fails, half as many are tried, down to the one that fails; then more again.
        """
        size = self._size(self._limit - part.weight)
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

    def _most(self, part: Slice) -> int:
        """Return how many more rows may be read for a slice, however short their texts are."""
        return min(self._together, max((self._limit - part.weight) // self._weigh.of_size(0), 1))

    def _size(self, weight: int) -> int:
        """Return how many bytes of long text weigh so much."""
        return max(weight * self._limit // max(self._weigh.of_size(self._limit), 1), 1)

    def _put(self, part: Slice, key: Key, text: RowText) -> None:
        part.texts[key] = text
        part.weight += self._weigh(text)
