"""The service's key: from the environment variable that the settings name, to the provider, and nowhere
else.
"""

import os
from urllib.parse import urlsplit

from walvec.embed.protocol import Settings
from walvec_slots.errors import PreconditionFailed

_HOSTED = "api.openai.com"


def api_key(settings: Settings) -> str | None:
    """The key; None where none is set and the service may do without, as a server of the user's own does.

    Raises PreconditionFailed, naming the variable, if one is required and not there, or cannot be sent.
    """
    variable = settings.api_key_env
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key.isascii() or not key.isprintable():
        raise PreconditionFailed(
            f"what the environment variable {variable} holds is no key: it has characters no header may have",
            hint=f"export {variable}=... anew, on one line",
        )
    service = _requires_key(settings)
    if key or service is None:
        return key or None
    if variable is None:
        raise PreconditionFailed(
            f"{service} needs a key",
            hint="set [embedder] api_key_env to the name of the variable that holds it",
        )
    raise PreconditionFailed(
        f"{service} needs a key, and the environment variable {variable} is not set",
        hint=f"export {variable}=..., or name another variable in [embedder] api_key_env",
    )


def _requires_key(settings: Settings) -> str | None:
    """What cannot be asked without one."""
    if settings.provider == "mistral":
        return "mistral"
    url = settings.base_url
    return "OpenAI" if url is None or urlsplit(url).hostname == _HOSTED else None
