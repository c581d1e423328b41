"""Connection strings and addresses with `***` in place of every secret. Pure.

The result is still valid, so that settings which were shown can be read back.
"""

import re
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

MASK: Final = "***"

# The secret parameters of a connection string.
SECRETS: Final = ("password", "sslpassword", "oauth_client_secret")

_USERINFO = re.compile(r"(?<=://)([^:@/?#]*):([^/?#]*)@")
_PARAMETER = re.compile(rf"([?&](?:{'|'.join(SECRETS)})=)[^&#]*")


def mask_dsn(dsn: str) -> str:
    """Mask a connection string of libpq, in its own form.

    Where that form is unusual, the result is `name=value` pairs.
    """
    given = conninfo_to_dict(dsn)
    found = {name: MASK for name in SECRETS if given.get(name)}
    if not found:
        return dsn
    if "://" in dsn:
        masked = _PARAMETER.sub(rf"\g<1>{MASK}", _USERINFO.sub(rf"\g<1>:{MASK}@", dsn))
        # libpq's own reading decides: a form that these patterns miss must not leak.
        if conninfo_to_dict(masked) == {**given, **found}:
            return masked
    return make_conninfo("", **{**given, **found})


def mask_url(url: str) -> str:
    """Mask the password in a server's address."""
    return _USERINFO.sub(rf"\g<1>:{MASK}@", url)


def printable(text: str) -> str:
    """Make one line of a foreign text, with `?` for what a terminal would interpret."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
