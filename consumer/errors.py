"""The consumer's errors; what they have in common is in slots.errors.

WalvecError
├── ConfigInvalid       the settings don't fit (exit 2)
└── …                   slots.errors: the stream's own
"""

from typing import ClassVar

from slots.errors import WalvecError

__all__ = ["ConfigInvalid", "WalvecError"]


class ConfigInvalid(WalvecError):
    """A setting is unknown, missing or impossible; names the key and the fix, never the value."""

    exit_code: ClassVar[int] = 2
