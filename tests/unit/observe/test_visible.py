import io

import structlog
from hypothesis import given
from hypothesis import strategies as st

from walvec.config.sections import LogSettings
from walvec.observe import logs
from walvec.observe.visible import visible

HOSTILE = (
    "key\x1b[2J\x1b]0;all is well\x07\r\nwalvec: all is well\u202egnp\u2066\u2028\x9b31m\ud800\U000e0041\x7f"
)


@given(st.text())
def test_nothing_that_drives_a_terminal_comes_through(text: str) -> None:
    """Any text is shown as one line of visible characters."""
    shown = visible(text)
    assert not set(shown) & {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F))}
    assert len(shown.splitlines()) <= 1


def test_words_of_every_language_stay_as_they_are() -> None:
    """Accents, right-to-left letters, joined letters and emoji stay as they are."""
    text = "naïve Ünïcödé, שלום, नमस्ते, \u0645\u06cc\u200c\u062e, 👩\u200d🚀, 表"
    assert visible(text) == text


def test_a_console_log_shows_no_control_character() -> None:
    """The console shows no control character; JSON escapes them anyway."""
    for form in ("console", "json"):
        stream = io.StringIO()
        logs.set_up(LogSettings(format=form), stream)
        try:
            structlog.get_logger().warning(
                f"event {HOSTILE}", table=HOSTILE, tables=[HOSTILE], more={HOSTILE: HOSTILE}
            )
        finally:
            structlog.reset_defaults()
        written = stream.getvalue()
        assert written.count("\n") == 1
        assert not set(written) & {"\x1b", "\x07", "\r"}
        if form == "console":
            assert not set(written) & set("\x9b\u202e\u2066\u2028\x7f")
