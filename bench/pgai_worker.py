"""pgai's worker with an embedder in its own process. Run by the Python of pgai's environment.

The command is pgai's own; only the request to the service is replaced by vectors that are there already,
after `BENCH_LATENCY` seconds. That is more than any service can give pgai: no HTTP, no JSON, no second
process. What it was asked for is written to the file that `BENCH_COUNT` names, as the number of texts.
"""

import asyncio
import os
import random
from pathlib import Path

from pgai.cli import cli  # type: ignore[import-not-found]
from pgai.vectorizer.embedders.ollama import Ollama  # type: ignore[import-not-found]
from pgai.vectorizer.embeddings import EmbeddingResponse, Usage  # type: ignore[import-not-found]

LATENCY = float(os.environ["BENCH_LATENCY"])  # seconds
COUNT = Path(os.environ["BENCH_COUNT"])
VECTOR = [random.gauss(0, 0.05) for _ in range(int(os.environ["BENCH_DIMENSIONS"]))]

texts = 0


async def set_up(_: Ollama) -> None:
    """Ask no server whether it has the model."""


async def embed(_: Ollama, documents: list[str]) -> EmbeddingResponse:
    """Answer as the service would."""
    global texts  # noqa: PLW0603 -- a script
    texts += len(documents)
    await asyncio.sleep(LATENCY)
    return EmbeddingResponse(embeddings=[VECTOR] * len(documents), usage=Usage(1, 1))


Ollama.setup = set_up
Ollama.call_embed_api = embed
try:
    cli()
finally:
    COUNT.write_text(str(texts), encoding="utf-8")
