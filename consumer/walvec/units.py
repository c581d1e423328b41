"""Bytes and times in words, with few digits. Pure."""

_TIMES = ((86_400.0, "d", 3_600.0, "h"), (3_600.0, "h", 60.0, "min"))


def duration(seconds: float | None) -> str:
    """Spell a time in at most two units; `?` where it is unknown.

    For example: 0 s, 59 s, 12 min, 3 h 20 min, 2 d 4 h.
    """
    if seconds is None:
        return "?"
    for size, unit, part_size, part_unit in _TIMES:
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            part = int(rest // part_size)
            return f"{whole:.0f} {unit}" + (f" {part} {part_unit}" if part else "")
    if seconds >= 100:  # noqa: PLR2004 -- below it seconds are read more easily
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s"


def byte_size(count: int | None) -> str:
    """Spell a number of bytes with three digits and a unit; `?` where it is unknown."""
    if count is None:
        return "?"
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:  # noqa: PLR2004 -- three digits
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.1f} TB"
