"""Whether `walvec.toml` holds a password that every user of the machine can read."""

import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from psycopg.conninfo import conninfo_to_dict

from walvec.config.file import ConfigFile
from walvec.config.masking import SECRETS
from walvec_slots.probe import Finding

_log = structlog.get_logger(__name__)


def find_exposure(path: Path | None) -> Finding | None:
    """Return a warning if the settings' file exposes a secret.

    `path` defaults to walvec.toml here. The file has been loaded, so its shape is right. A group that may
    read it was chosen on purpose.
    """
    file = ConfigFile.read(path, required=False)
    if not any(_secrets(file.document)) or not file.path.stat().st_mode & stat.S_IROTH:
        return None
    return Finding(
        str(file.path),
        "warning",
        "holds a password, and every user of this machine can read it",
        f"chmod o-r {shlex.quote(str(file.path))}; or move the password to ~/.pgpass, which libpq reads",
    )


def warn_of_exposure(path: Path | None) -> None:
    """Log the warning, if there is one."""
    if finding := find_exposure(path):
        _log.warning(
            "config.exposed",
            file=finding.subject,
            what=finding.detail,
            hint=finding.remedy,
        )


def _secrets(document: Mapping[str, Any]) -> list[object]:
    """Return the values that would be secret; each may be None."""
    found = []
    for section in ("source", "target"):
        dsn = conninfo_to_dict(document.get(section, {}).get("dsn", ""))
        found += [dsn.get(name) for name in SECRETS]
    return [*found, urlsplit(document.get("embedder", {}).get("base_url") or "").password]
