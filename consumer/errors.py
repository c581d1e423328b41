"""The consumer's errors; what they have in common is in slots.errors.

    WalvecError
    ├── ConfigInvalid       2  the settings don't fit
    ├── UsageInvalid        2  the command line asks for what cannot be done, or leaves open what is meant
    └── …                      slots.errors: the stream's own

The number is the process's exit code when the error ends it.
"""

from slots.errors import WalvecError

__all__ = ["ConfigInvalid", "UsageInvalid", "WalvecError"]


class ConfigInvalid(WalvecError):
    """A setting is unknown, missing or impossible; names the key and the fix, never the value."""

    exit_code = 2


class UsageInvalid(WalvecError):
    """An argument or option is impossible, or one is missing that would make the command safe."""

    exit_code = 2
