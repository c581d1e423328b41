"""The precondition on the embedder: it is configured, and answers."""

from walvec.config.load import Config
from walvec.embed.protocol import open_embedder
from walvec.embed.service import ask
from walvec_slots.errors import WalvecError
from walvec_slots.probe import Finding

_TEST_TEXT = "walvec asks whether the embedder answers."


async def embedder_finding(config: Config, *, offline: bool) -> Finding:
    """Open the embedder and, unless `offline`, have it embed one short text."""
    settings = config.embedder
    try:
        embedder = open_embedder(settings)
        try:
            if not offline:
                await ask(embedder, [_TEST_TEXT])
        finally:
            await embedder.aclose()
    except WalvecError as error:
        return Finding.of("embedder", error)
    said = "is configured, not asked" if offline else f"answers with {settings.dimensions} dimensions"
    model = "" if settings.model == settings.provider else f" {settings.model}"
    return Finding("embedder", "ok", f"{settings.provider}{model} {said}", None)
