import pytest

from walvec_slots import errors
from walvec_slots.errors import WalvecError
from walvec_slots.lsn import Lsn


def test_text_is_what_happened_and_what_to_do() -> None:
    """The text is what happened, then the hint if there is one."""
    assert (str(WalvecError("it broke")), str(WalvecError("it broke", hint="fix it"))) == (
        "it broke",
        "it broke; fix it",
    )


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.WalvecError, 1),
        (errors.PreconditionFailed, 3),
        (errors.SlotBlocked, 3),
        (errors.SlotLost, 4),
        (errors.SlotWedged, 4),
        (errors.SlotActive, 5),
        (errors.ConnectionLost, 1),
        (errors.MalformedMessage, 1),
    ],
)
def test_exit_codes_are_the_contracts(kind: type[WalvecError], code: int) -> None:
    """Each error has the exit code of the contract."""
    assert kind.exit_code == code


def test_a_malformed_message_says_where_it_stood() -> None:
    """A MalformedMessage has its LSN in the text and as an attribute."""
    error = errors.MalformedMessage("is odd", lsn=Lsn(0x16B374D848))
    assert (error.lsn, str(error)) == (0x16B374D848, "The message at 16/B374D848 is odd")
