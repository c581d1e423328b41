"""Text as a terminal may show it: what would drive it is made visible. Pure.

A key or a chunk with escape sequences could clear the screen, set the window's title, or write a line that
looks like walvec's own; characters that turn the direction of writing could make a name look like another.
"""

from typing import Final
from unicodedata import category

# Zero-width characters that words of some languages, and emoji, are written with.
_HARMLESS: Final = frozenset("\u200c\u200d")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """Return the text with control, format and line-breaking characters written as escapes."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) if _drives(character) else character for character in text)


def _drives(character: str) -> bool:
    """Whether a character is a control (Cc), a format (Cf), a surrogate (Cs), or ends a line or paragraph."""
    return category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _HARMLESS


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
