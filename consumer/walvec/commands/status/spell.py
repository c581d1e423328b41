"""Times in the words of a status line. Pure."""

_UNITS = ((86_400.0, "d", 3_600.0, "h"), (3_600.0, "h", 60.0, "min"))


def duration(seconds: float | None) -> str:
    """Spell a time in at most two units: 0 s, 59 s, 12 min, 3 h 20 min, 2 d 4 h; `?` where it is unknown."""
    if seconds is None:
        return "?"
    for size, unit, part_size, part_unit in _UNITS:
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            part = int(rest // part_size)
            return f"{whole:.0f} {unit}" + (f" {part} {part_unit}" if part else "")
    if seconds >= 100:  # noqa: PLR2004 -- below it seconds are read more easily
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s"
