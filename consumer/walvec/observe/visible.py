"""Text made safe for a terminal: what would control it becomes visible. Pure.

A key or a chunk with escape sequences could clear the screen, set the window's title, or write a line that
looks like one of walvec's; characters that change the direction of writing could disguise a name.
"""

from typing import Final
from unicodedata import category

# Zero-width characters that the words of some languages, and some emoji, contain.
_HARMLESS: Final = frozenset("\u200c\u200d")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """Return the text with control, format and line-breaking characters escaped."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) if _is_control(character) else character for character in text)


def _is_control(character: str) -> bool:
    """Whether a character may control a terminal.

    Such are controls (Cc), formats (Cf), surrogates (Cs), and line and paragraph separators.
    """
    return category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _HARMLESS


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
