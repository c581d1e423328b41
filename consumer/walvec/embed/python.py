"""The user's own function: `model = "module:function"`.

    def embed(texts: list[str]) -> list[list[float]]: ...          # or async def

A plain function runs in a thread, in up to `concurrency` threads at once. It may raise an error of
`walvec.embed.errors` to say what to do: InputRefused for a text that it will never accept, RateLimited to be
called again later. Any other exception counts as a failing service.
"""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from walvec.embed.errors import BadAnswer, EmbeddingError, ServiceUnavailable
from walvec.embed.http_answer import timed_out
from walvec.embed.protocol import Answer, Settings
from walvec.embed.vectors import as_vector
from walvec_slots.errors import PreconditionFailed


class PythonEmbedder:
    """Calls the function that `model` names.

    Raises PreconditionFailed if it cannot be imported. A coroutine has `timeout` seconds; a thread cannot be
    stopped, so a plain function may take any time.
    """

    name = "python"

    def __init__(self, settings: Settings) -> None:
        self.model = settings.model
        self.dimensions = settings.dimensions
        self._timeout = settings.timeout
        self._function = import_function(settings.model)

    async def embed(self, texts: Sequence[str]) -> Answer:
        """Call the function once; see `Embedder`."""
        try:
            found = await self._call(list(texts))
        except EmbeddingError:
            raise
        except TimeoutError:
            raise timed_out(self.model, self._timeout) from None
        except Exception as error:
            # The user's function may raise anything, and the message may quote the text.
            raise ServiceUnavailable(f"{self.model} raised {type(error).__name__}", cause="crash") from None
        try:
            return Answer([as_vector(numbers) for numbers in found], None)
        except TypeError:
            raise BadAnswer(f"{self.model} did not return a list of vectors") from None

    async def _call(self, texts: list[str]) -> Any:
        if not inspect.iscoroutinefunction(self._function):
            return await asyncio.to_thread(self._function, texts)
        coroutine: Awaitable[Any] = self._function(texts)
        return await asyncio.wait_for(coroutine, self._timeout)

    async def aclose(self) -> None:
        """Do nothing: there is no connection to close."""


def import_function(name: str) -> Callable[[list[str]], Any]:
    """Import `module:function`.

    Modules in the working directory are found too, after all others. Raises PreconditionFailed.
    """
    module, _, attribute = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found = reduce(getattr, attribute.split("."), import_module(module))
    except Exception as error:
        # Importing runs the user's module, which may raise anything.
        raise PreconditionFailed(
            f"{name} cannot be imported ({type(error).__name__})",
            hint='set [embedder] model to "module:function", and put the module on PYTHONPATH or install it',
        ) from None
    if not callable(found):
        raise PreconditionFailed(
            f"{name} is not a function", hint='set [embedder] model to "module:function"'
        )
    return found
