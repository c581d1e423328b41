"""The settings that a vectorizer's vectors were made with. Pure.

`walvec.vectorizer` keeps them, so that a change of settings is noticed before vectors of two kinds are mixed:
`run`, `setup` and `check` refuse it, and `walvec backfill` embeds again.
"""

from collections.abc import Mapping

from walvec.config.sections import EmbedderSettings, Vectorizer
from walvec.database.ownership import require_vectorizer
from walvec.database.registry import VectorizerState
from walvec_slots.errors import PreconditionFailed


def fingerprint_of(vectorizer: Vectorizer, embedder: EmbedderSettings) -> dict[str, str]:
    """Describe every setting that decides what a row's vectors are.

    The metric and the index are absent: they change how vectors are searched, not what they are.
    """
    chunk = vectorizer.chunk
    return {
        "table": str(vectorizer.table),
        "target": str(vectorizer.target),
        "text": vectorizer.text,
        "where": vectorizer.where or "",
        "chunk": chunk if isinstance(chunk, str) else f"{chunk.size}/{chunk.overlap}",
        "provider": embedder.provider,
        "model": embedder.model,
        "dimensions": str(embedder.dimensions),
    }


def changed_settings(state: VectorizerState, wanted: Mapping[str, str]) -> list[str]:
    """Return which settings differ from those that the vectors were made with."""
    return [key for key, value in wanted.items() if state.fingerprint.get(key) != value]


def require_fingerprint(
    state: VectorizerState | None, name: str, slot: str, wanted: Mapping[str, str]
) -> VectorizerState:
    """Return the vectorizer's state if its vectors were made with the wanted settings.

    Raises PreconditionFailed where it is not set up, belongs to another slot, or was made with others.
    """
    state = require_vectorizer(state, name, slot)
    if changed := changed_settings(state, wanted):
        raise PreconditionFailed(
            f'Vectorizer "{name}": {" and ".join(changed)} changed since {state.target_table} was embedded',
            hint=f"set it back, or run: walvec backfill {name}, which says what that costs and asks first",
        )
    return state
