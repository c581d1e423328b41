"""The rules of `blame`, by number."""

import pytest

from walvec.embed.blame import STRIKES, STRIKES_OF_MANY, Trial, may_pass
from walvec.embed.errors import (
    BadAnswer,
    BatchTooLarge,
    EmbeddingError,
    InputRefused,
    Misconfigured,
    RateLimited,
    ServiceUnavailable,
    Unauthorized,
)

CRASH = ServiceUnavailable("500", cause="crash")
TIMEOUT = ServiceUnavailable("silent", cause="timeout")
REFUSED = InputRefused("400")
TOO_LARGE = BatchTooLarge("413", of="tokens")
LONE, SEVERAL = ["one"], ["one", "two"]


def trial(texts: list[str], *, suspected: bool = False, answered: int = 0) -> Trial:
    """Return a trial whose first attempt began after `answered` answers."""
    begun = Trial(several=len(texts) > 1, suspected=suspected)
    begun.begin(answered)
    return begun


@pytest.mark.parametrize("error", [REFUSED, TOO_LARGE])
def test_a_refused_text_is_to_blame_only_for_an_answer_from_meanwhile(error: EmbeddingError) -> None:
    """Rule 1: an answer given before the attempt proves nothing; the probe decides."""
    assert trial(LONE, answered=5).fault(error, 5) == "unclear"
    assert trial(LONE, answered=5).fault(error, 6) == "texts"


def test_a_refused_request_is_split_if_anything_was_ever_answered() -> None:
    """Rule 1: any answer allows a split; before the first, it may be a setting."""
    assert trial(SEVERAL, answered=5).fault(REFUSED, 5) == "texts"
    assert trial(SEVERAL).fault(REFUSED, 0) == "unclear"


def test_a_request_that_is_too_large_is_split_at_once() -> None:
    """A service that says that a request is too large is believed."""
    assert trial(SEVERAL).fault(TOO_LARGE, 0) == "texts"


@pytest.mark.parametrize("texts", [LONE, SEVERAL])
@pytest.mark.parametrize(
    "error",
    [
        RateLimited("429"),
        ServiceUnavailable("reset", cause="network"),
        ServiceUnavailable("503", cause="overload"),
    ],
)
def test_overload_a_rate_and_the_network_are_never_a_text_s(texts: list[str], error: EmbeddingError) -> None:
    """Rule 2: such a failure is the service's, however many others are answered."""
    assert trial(texts).fault(error, 100) == "service"


@pytest.mark.parametrize(
    "error", [CRASH, TIMEOUT, BadAnswer("nan"), Unauthorized("403"), Misconfigured("404")]
)
def test_any_other_failure_is_unclear_until_the_probe_has_told(error: EmbeddingError) -> None:
    """Rule 3: the probe decides a failure that the service does not explain."""
    assert trial(LONE).fault(error, 100) == "unclear"


@pytest.mark.parametrize(
    ("texts", "suspected", "error", "strikes"),
    [
        (LONE, False, CRASH, STRIKES),
        (LONE, True, CRASH, STRIKES),
        (SEVERAL, False, CRASH, STRIKES_OF_MANY),
        (SEVERAL, True, CRASH, 1),
        (LONE, True, TIMEOUT, 1),
        (SEVERAL, False, TIMEOUT, 1),
        (LONE, False, REFUSED, 1),
    ],
)
def test_strikes_that_it_takes(
    texts: list[str],
    *,
    suspected: bool,
    error: EmbeddingError,
    strikes: int,
) -> None:
    """Rule 3: a single text needs most strikes; a refusal or a time-out is enough."""
    begun = trial(texts, suspected=suspected)
    assert [begun.add_strike(error) for _ in range(strikes)] == [*[False] * (strikes - 1), True]


def test_strikes_are_in_a_row() -> None:
    """Rule 3: an outage between two failures takes the strikes back."""
    begun = trial(LONE)
    for _ in range(10):
        assert not begun.add_strike(CRASH)
        begun.acquit()


@pytest.mark.parametrize(
    ("error", "passes"),
    [(REFUSED, False), (TOO_LARGE, False), (CRASH, True), (TIMEOUT, True), (BadAnswer(""), True)],
)
def test_a_refusal_does_not_pass_by_itself(error: EmbeddingError, *, passes: bool) -> None:
    """Rule 4: a service that refused a text would refuse it again."""
    assert may_pass(error) is passes
