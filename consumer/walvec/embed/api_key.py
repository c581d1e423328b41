"""The service's key: read from the environment, and given to the provider only.

The settings name the environment variable; the key itself is in no file, log line or message.
"""

import os
from urllib.parse import urlsplit

from walvec.embed.protocol import Settings
from walvec_slots.errors import PreconditionFailed

_HOSTED = "api.openai.com"


def api_key(settings: Settings) -> str | None:
    """Return the key; None if none is set and the service may work without one.

    A server that the user runs often needs none. Raises PreconditionFailed, naming the variable, if a
    required key is missing or if the key cannot be sent in a header.
    """
    variable = settings.api_key_env
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key.isascii() or not key.isprintable():
        raise PreconditionFailed(
            f"The environment variable {variable} holds characters that an HTTP header cannot carry",
            hint=f"set it to the key alone, on one line: export {variable}=...",
        )
    service = _requires_key(settings)
    if key or service is None:
        return key or None
    if variable is None:
        raise PreconditionFailed(
            f"{service} needs a key, and [embedder] api_key_env names no variable",
            hint="set [embedder] api_key_env to the name of the variable that holds the key",
        )
    raise PreconditionFailed(
        f"{service} needs a key, and the environment variable {variable} is not set",
        hint=f"export {variable}=..., or name another variable in [embedder] api_key_env",
    )


def _requires_key(settings: Settings) -> str | None:
    """Name the service if it cannot be used without a key."""
    if settings.provider == "mistral":
        return "Mistral"
    url = settings.base_url
    return "OpenAI" if url is None or urlsplit(url).hostname == _HOSTED else None
