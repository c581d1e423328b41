"""Named places where a test may kill the process.

They lie at the borders between the steps that a crash must not tear. WALVEC_FAILPOINT=name ends the process
there at once, name:3 at the third time. Without the variable a failpoint costs nothing.
"""

import os
import signal
from typing import Literal, get_args

Failpoint = Literal[
    "after-decode",
    "after-plan",
    "before-embed",
    "after-embed",
    "before-commit",
    "after-commit",
    "before-confirm",
    "after-confirm",
    "backfill-read",
    "setup-publication",
    "setup-slot",
    "setup-checkpoint",
    "setup-target",
    "resync-slot",
    "resync-drop",
    "resync-begin",
    "resync-copy",
    "replay-checkpoint",
    "replay-drop",
    "replay-copy",
]

NAMES: tuple[str, ...] = get_args(Failpoint)

_armed, _, _count = os.environ.get("WALVEC_FAILPOINT", "").partition(":")
_left = int(_count or 1)


def failpoint(name: Failpoint) -> None:
    """Die here, if this is the armed failpoint and its time has come."""
    global _left  # noqa: PLW0603  one process, one death
    if name == _armed:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
