"""The service's key: from the environment variable that the settings name, to the provider, and nowhere
else.
"""

import os

from slots.errors import PreconditionFailed


def api_key(variable: str | None, *, required_by: str | None) -> str | None:
    """The key, or None where none is set and none is required.

    Raises PreconditionFailed, naming the variable, if `required_by`, a provider or service, can't do without,
    and if what is there cannot be sent.
    """
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key.isascii() or not key.isprintable():
        raise PreconditionFailed(
            f"what the environment variable {variable} holds is no key: it has characters no header may have",
            hint=f"export {variable}=... anew, on one line",
        )
    if key:
        return key
    if required_by is None:
        return None
    if variable is None:
        raise PreconditionFailed(
            f"{required_by} needs a key",
            hint="set [embedder] api_key_env to the name of the variable that holds it",
        )
    raise PreconditionFailed(
        f"{required_by} needs a key, and the environment variable {variable} is not set",
        hint=f"export {variable}=..., or name another variable in [embedder] api_key_env",
    )
