"""walvec's embedder in its own process, for its `python` provider: the counterpart of pgai_worker.py.

The vectors are there already: no HTTP, no JSON, no second process.
"""

import asyncio
import random
from array import array

DIMENSIONS = 384
SLOW = 0.05  # seconds that `slowly` takes

_VECTOR = array("f", [random.gauss(0, 0.05) for _ in range(DIMENSIONS)])


async def at_once(texts: list[str]) -> list["array[float]"]:
    """Answer without delay."""
    return [_VECTOR] * len(texts)


async def slowly(texts: list[str]) -> list["array[float]"]:
    """Answer after SLOW seconds, as a service would."""
    await asyncio.sleep(SLOW)
    return await at_once(texts)
