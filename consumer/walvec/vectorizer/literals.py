"""The string constants in SQL as a user writes it. Pure."""

import re
from collections.abc import Iterator

# Comments and quoted names are matched to be skipped: what looks like a constant inside them is not one.
_TOKEN = re.compile(
    r"""
    --[^\n]*
    | /\* (?: [^*] | \*(?!/) )* \*/
    | (?:[uU]&)?"(?:[^"]|"")*"
    | (?P<dollar> (?<![\w$]) \$(?P<tag>[a-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$ .*?
        \$(?(tag)(?P=tag))\$ )
    | (?P<escapes> (?<!\w) [eE] '(?:[^'\\]|''|\\.)*' (?:\s*\n\s*'(?:[^'\\]|''|\\.)*')* )
    | (?P<unicode> (?<!\w) [uU]& '(?:[^']|'')*' (?:\s*\n\s*'(?:[^']|'')*')* (?:\s+UESCAPE\s+'[^']')? )
    | (?P<plain> '(?:[^']|'')*' (?:\s*\n\s*'(?:[^']|'')*')* )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
# An unterminated constant is quoted with all that follows, the statement around it too.
_QUOTED_TAIL = r'(?s) at or near ".*\n.*'
_KINDS = ("dollar", "escapes", "unicode", "plain")

# https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-SPECIAL-VALUES
_CLOCK = re.compile(r"(?<![^\W\d_])(now|today|tomorrow|yesterday)(?![^\W\d_])", re.IGNORECASE)


def find_literals(expression: str) -> Iterator[tuple[int, int]]:
    """Yield where each string constant begins and ends."""
    for token in _TOKEN.finditer(expression):
        if any(token[kind] for kind in _KINDS):
            yield token.span()


def without_clock(value: str) -> str | None:
    """Replace `now`, `today` and the like by a word that no date has.

    Returns None where there is no such word.
    """
    changed = _CLOCK.sub("walvec", value)
    return None if changed == value else changed


def point_out(message: str, written: str, position: int) -> str:
    """Add the line at fault to a message, with a mark under the place.

    A negative position is not known, and adds nothing. One past the end is in the statement around the
    expression: then a quote or a parenthesis is not closed.
    """
    if position < 0:
        return message
    if position >= len(written.rstrip()):
        position, message = (
            len(written.rstrip()),
            re.sub(r'(?s) at (or near ".*|end of input)', " at its end", message),
        )
    begin = written.rfind("\n", 0, position) + 1
    line = written[begin:].partition("\n")[0]
    mark = "".join("\t" if character == "\t" else " " for character in written[begin:position]) + "^"
    return f"{re.sub(_QUOTED_TAIL, '', message)}\n    {line}\n    {mark}"
