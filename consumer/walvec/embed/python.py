"""The user's own function: `model = "module:function"`.

    def embed(texts: list[str]) -> list[list[float]]: ...          # or async def

A plain function runs in a thread, several at once up to `concurrency`. It may raise an error of
`walvec.embed.errors` to say what is to be done: InputRefused for a text that it will never take,
RateLimited to be asked later. Whatever else it raises counts as a failing service.
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

    Raises PreconditionFailed if it can't be imported. A coroutine has `timeout` seconds; a thread can't be
    stopped, so a plain function has all the time it takes.
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
        except Exception as error:  # the user's own: of any type, and its words may be the text
            raise ServiceUnavailable(f"{self.model} raised {type(error).__name__}", cause="crash") from None
        try:
            return Answer([as_vector(each) for each in found], None)
        except TypeError:
            raise BadAnswer(f"{self.model} did not return a list of vectors") from None

    async def _call(self, texts: list[str]) -> Any:
        if not inspect.iscoroutinefunction(self._function):
            return await asyncio.to_thread(self._function, texts)
        coroutine: Awaitable[Any] = self._function(texts)
        return await asyncio.wait_for(coroutine, self._timeout)

    async def aclose(self) -> None:
        """Nothing is held."""


def import_function(name: str) -> Callable[[list[str]], Any]:
    """Import `module:function`; modules of the working directory are found too, after all others.

    Raises PreconditionFailed.
    """
    module, _, attribute = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found = reduce(getattr, attribute.split("."), import_module(module))
    except Exception as error:  # importing runs the user's module
        raise PreconditionFailed(
            f"{name} cannot be imported ({type(error).__name__})",
            hint='set [embedder] model to "module:function", and put the module on PYTHONPATH or install it',
        ) from None
    if not callable(found):
        raise PreconditionFailed(f"{name} is no function", hint='set [embedder] model to "module:function"')
    return found
