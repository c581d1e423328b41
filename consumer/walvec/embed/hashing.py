"""Feature hashing: words -> signed buckets of a vector; for tests and first steps.

It needs no model, no network and no key, and gives the same vectors on every machine. Texts that share words
are near each other; words that look rare and pairs of neighbouring words weigh more. It knows nothing of
meaning. (Weinberger et al., Feature Hashing for Large Scale Multitask Learning,
https://arxiv.org/abs/0902.2206)
"""

import asyncio
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from math import log, sqrt
from time import perf_counter

from walvec.embed.protocol import Answer, Vector

# Seconds of work after which other tasks of the event loop get their turn.
SLICE = 0.002
# Characters that take about one slice.
SLICE_MAX = 20_000

# The first letters that relate "decorate" to "decorators".
STEM = 5
STEM_WEIGHT = 0.6
PAIR_WEIGHT = 0.4
COMMON_WEIGHT = 0.1

# A word of letters and digits, or a single ideograph or kana, since those are written without spaces.
_IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W_{_IDEOGRAPHS}]+")

# Words that make up half of any English text and say nothing about its subject.
_COMMON_WORDS = """
a about after all also am an and any are as at be been before but by can could did do does each
either for from had has have he her his how however i if in into is it its may me might more most
must my no nor not of on one only or other our out over own same see she should so some such than
that the their them then there these they this those through thus to too two under until up use used
using very was we were what when where whether which while who whose why will with within without
would yes yet you your
"""
_COMMON = frozenset(_COMMON_WORDS.split())

# 2**64 divided by the golden ratio; it spreads the hashes of pairs.
_MIX = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_SIGN = 1 << 63


class HashingEmbedder:
    """Embeds texts of any language in vectors of unit length, from 1 dimension on."""

    name = "hashing"

    def __init__(self, model: str, dimensions: int) -> None:
        self.model = model
        self.dimensions = dimensions

    async def embed(self, texts: Sequence[str]) -> Answer:
        """Embed in slices of time.

        Threads would compete with the event loop for the interpreter lock.
        """
        vectors: list[Vector] = []
        pause = perf_counter() + SLICE
        for text in texts:
            if len(text) > SLICE_MAX:
                vectors.append(await asyncio.to_thread(embed_text, text, self.dimensions))
                continue
            vectors.append(embed_text(text, self.dimensions))
            if perf_counter() > pause:
                await asyncio.sleep(0)
                pause = perf_counter() + SLICE
        return Answer(vectors, None)

    async def aclose(self) -> None:
        """Do nothing: there is no connection to close."""


def embed_text(text: str, dimensions: int) -> Vector:
    """Return the vector of one text; even without words it is never zero."""
    buckets = [0.0] * dimensions
    words = [_word_hashes(word) for word in _WORD.findall(text.casefold())]
    for (number, stem, rarity), count in Counter(words).items():
        weight = rarity * (1 + log(count))
        buckets[number % dimensions] += weight if number & _SIGN else -weight
        if stem:
            buckets[stem % dimensions] += weight * (STEM_WEIGHT if stem & _SIGN else -STEM_WEIGHT)
    for (one, _, before), (two, _, after) in pairwise(words):
        pair = (one * _MIX + two) & _MASK
        weight = PAIR_WEIGHT * before * after
        buckets[pair % dimensions] += weight if pair & _SIGN else -weight
    norm = sqrt(sum(value * value for value in buckets))
    if not norm:
        buckets[_hash_number(text) % dimensions] = norm = 1.0
    return array("f", [value / norm for value in buckets])


@lru_cache(maxsize=65_536)
def _word_hashes(word: str) -> tuple[int, int, float]:
    """Return a word's hash, its stem's hash (0 if it has none), and its weight.

    Longer words weigh more, since they tend to be rarer.
    """
    stem = _hash_number(f"{word[:STEM]}*") if len(word) > STEM else 0
    weight = COMMON_WEIGHT if word in _COMMON else min(1.0, 0.4 + len(word) / 10)
    return _hash_number(word), stem, weight


def _hash_number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
