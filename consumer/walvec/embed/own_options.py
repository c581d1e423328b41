"""The options that walvec adds by itself, and which of them a service refuses.

They are base64 and dimensions. Services refuse an option in many ways: a 400 that names it, a 422 that names
it in a path only, a 404, a crash, or a 200 with an empty list. So the wording proves nothing: an option is
withdrawn once the same texts get their vectors without it and none with it. If the service names no option,
one short text is enough to find out. That is tried on the first refusal, then more and more rarely.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from walvec.embed.errors import BadAnswer, EmbeddingError, InputRefused, Misconfigured, ServiceUnavailable
from walvec.embed.protocol import Answer

# Refusals in a row before a service that has accepted the options is suspected of refusing them: at first,
# and at most, after any number of trials that found nothing.
SUSPECT_AFTER = 3
SUSPECT_LATEST = 64

Options = Mapping[str, object]
Send = Callable[[Sequence[str], Options], Awaitable[Answer]]


class OwnOptions:
    """The options of one embedder that its service accepts.

    `options` are sent until they are refused; `dimensions` is the length that vectors must have.
    """

    def __init__(self, options: Options, dimensions: int) -> None:
        self._options = options
        self._dimensions = dimensions
        # Refusals since the last answer or the last trial.
        self._refusals = 0
        self._suspect_after = 1
        self._trials = 0
        # One trial serves all requests that were refused together.
        self._trying = asyncio.Lock()

    async def ask(self, texts: Sequence[str], send: Send) -> Answer:
        """Send the texts with the options that the service accepts. Raises EmbeddingError."""
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
        """Leave out the options that the refusal names; return None if that does not help."""
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
        """Whether it is time to check if a failure is about the options."""
        match error:
            case ServiceUnavailable(cause="crash") | BadAnswer() | InputRefused() | Misconfigured():
                self._refusals += 1
                return bool(self._options) and self._refusals >= self._suspect_after
        return False

    async def _without_refused(self, texts: Sequence[str], error: EmbeddingError, send: Send) -> Options:
        """Find the options that the service accepts; all of them if none is at fault."""
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
            # A length that was not requested is accepted only if the service refused the request for one:
            # then the settings have to change.
            size = await size_with(tried)
            return size is not None and (refused or size == self._dimensions)

        self._refusals, self._suspect_after = 0, min(2 * self._suspect_after, SUSPECT_LATEST)
        if await size_with({}) is None:
            return options
        # A service that crashes now and then fails with any options, so it has to fail twice.
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
