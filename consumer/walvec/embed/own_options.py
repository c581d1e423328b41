"""What walvec adds to a request by itself (base64, dimensions), and what of it a service does not take.

Services refuse an option in every form there is: a 400 that names it, a 422 that names it in a path only, a
404, a crash, or a 200 with an empty list. So the proof is not in the words: an option is withdrawn once the
same texts have their vectors without it, and none with it. Where the service names none, one short text is
enough to find out, and it is tried with the first refusal, then ever more rarely.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from walvec.embed.errors import BadAnswer, EmbeddingError, InputRefused, Misconfigured, ServiceUnavailable
from walvec.embed.protocol import Answer

SUSPECT_AFTER = 3  # refusals in a row, of a service that has taken the options before
SUSPECT_LATEST = 64  # and after any number of trials that found nothing

Options = Mapping[str, object]
Send = Callable[[Sequence[str], Options], Awaitable[Answer]]


class OwnOptions:
    """The options of one embedder, as far as its service takes them."""

    def __init__(self, options: Options, dimensions: int) -> None:
        """Ask for `options` until they are refused; `dimensions` is the length that vectors must have."""
        self._options = options
        self._dimensions = dimensions
        self._refusals = 0  # since the last answer, or the last trial
        self._suspect_after = 1
        self._trials = 0
        self._trying = asyncio.Lock()  # one finds out for all whose requests were refused together

    async def ask(self, texts: Sequence[str], send: Send) -> Answer:
        """Send the texts with the options that the service takes. Raises EmbeddingError."""
        options = self._options
        try:
            answer = await send(texts, options)
        except EmbeddingError as error:
            if not self._is_suspect(error):
                raise
            if found := await self._without_named(texts, error, send):
                return found
            trials = self._trials
            async with self._trying:
                if self._options is options and self._trials == trials:
                    self._trials += 1
                    self._options = await self._without_refused(texts, error, send)
            if self._options is options:
                raise
            return await send(texts, self._options)
        self._refusals, self._suspect_after = 0, SUSPECT_AFTER
        return answer

    async def _without_named(self, texts: Sequence[str], error: EmbeddingError, send: Send) -> Answer | None:
        """Take a service at its word: leave out what its refusal names. None if that does not help."""
        fewer = _without(self._options, error.names)
        if fewer == self._options or not _is_refusal(error):
            return None
        try:
            answer = await send(texts, fewer)
        except EmbeddingError:
            return None
        self._options = _without(self._options, error.names)
        return answer

    def _is_suspect(self, error: EmbeddingError) -> bool:
        """Whether it is time to see if a failure is about the options."""
        match error:
            case ServiceUnavailable(cause="crash") | BadAnswer() | InputRefused() | Misconfigured():
                self._refusals += 1
                return bool(self._options) and self._refusals >= self._suspect_after
        return False

    async def _without_refused(self, texts: Sequence[str], error: EmbeddingError, send: Send) -> Options:
        """Find the options that the service takes; the same as before if none of them is at fault."""
        options = self._options
        refused = _is_refusal(error)
        text = [min(texts, key=len)]

        async def size_with(tried: Options) -> int | None:
            try:
                [vector] = (await send(text, tried)).vectors
            except (EmbeddingError, ValueError):
                return None
            return len(vector)

        async def works(tried: Options) -> bool:
            # A size that was not asked for is the settings' fault only where asking was refused.
            size = await size_with(tried)
            return size is not None and (refused or size == self._dimensions)

        self._refusals, self._suspect_after = 0, min(2 * self._suspect_after, SUSPECT_LATEST)
        if await size_with({}) is None:
            return options
        # A service that crashes now and then fails with any options: it has to fail twice.
        for _ in range(1 if refused else 2):
            if await size_with(options) is not None:
                return options
        for name in options:
            if await works(fewer := _without(options, {name})):
                return fewer
        return {} if await works({}) else options


def _is_refusal(error: EmbeddingError) -> bool:
    return isinstance(error, InputRefused | Misconfigured)


def _without(options: Options, names: AbstractSet[str]) -> Options:
    return {name: value for name, value in options.items() if name not in names}
