import pytest

from walvec_slots import errors
from walvec_slots.errors import WalvecError
from walvec_slots.lsn import Lsn


def test_text_is_what_happened_and_what_mends_it() -> None:
    """The hint follows where there is one."""
    assert (str(WalvecError("it broke")), str(WalvecError("it broke", hint="mend it"))) == (
        "it broke",
        "it broke; mend it",
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
    """The process ends with the code of the error that ended it."""
    assert kind.exit_code == code


def test_a_malformed_message_says_where_it_stood() -> None:
    """Its LSN is in the text and at hand."""
    error = errors.MalformedMessage("is odd", lsn=Lsn(0x16B374D848))
    assert (error.lsn, str(error)) == (0x16B374D848, "the message at 16/B374D848 is odd")
