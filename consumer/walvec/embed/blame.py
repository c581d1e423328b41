"""Whose fault is a failure: the service's, or that of the texts that were sent? Pure.

1. A text is blamed only when the service has been seen to take another one at the same time. While nothing
   is answered, not even the probe, it is the service's: a wrong setting or a broken service must not park
   every row there is.
2. Overload, a limit of the rate and a broken connection are never a text's.
3. A request of several texts that is blamed is split. A lone text is blamed once it has failed STRIKES times
   in a row while others were taken; strikes are taken back when the probe fails too.
4. Splitting begins soon, because the other texts wait for it: what a flaky service was wrongly blamed for
   costs a few requests, and a text that it was blamed for is tried again later (`Refused.passes`).
"""

from dataclasses import dataclass
from typing import Literal

from walvec.embed.errors import BatchTooLarge, EmbeddingError, InputRefused, RateLimited, ServiceUnavailable

STRIKES = 3  # times in a row that a lone text must fail, each time while others are taken
STRIKES_OF_MANY = 2  # the same for the first request of several; a part of one that was split gets one

Fault = Literal["texts", "service", "unclear"]


@dataclass(slots=True)
class Trial:
    """The attempts at one request, and what speaks against its texts. It does not hold them."""

    several: bool  # texts, not a lone one
    suspected: bool  # it is a part of a request that was blamed
    attempts: int = 0  # since the service was last found to be at fault
    strikes: int = 0
    answered_first: int = 0  # answers of the service to anybody, when the first of these attempts began
    answered: int = 0  # and when the last one did

    def begin(self, answered: int) -> None:
        """Note that an attempt begins, and how many answers anybody has had by then."""
        if self.attempts == 0:
            self.answered_first = answered
        self.attempts += 1
        self.answered = answered

    def fault(self, error: EmbeddingError, answered: int) -> Fault:
        """Whose fault the last attempt's failure is; unclear: the probe has to tell."""
        match error:
            case BatchTooLarge() if self.several:
                return "texts"
            case InputRefused() | BatchTooLarge():
                # Splitting is cheap, so any answer ever is proof enough; to refuse a text takes one from
                # meanwhile.
                return "texts" if answered > (0 if self.several else self.answered) else "unclear"
            case RateLimited() | ServiceUnavailable(cause="network" | "overload"):
                return "service"
        return "unclear"

    def struck(self, error: EmbeddingError) -> bool:
        """Count a failure while the service takes the probe; whether the texts are to blame by now."""
        self.strikes += 1
        return self.strikes >= self._strikes_needed(error)

    def acquit(self) -> None:
        """Begin again: the service was at fault."""
        self.attempts = self.strikes = 0

    def _strikes_needed(self, error: EmbeddingError) -> int:
        match error:
            case InputRefused() | BatchTooLarge():
                return 1  # the service says itself that it is the text
            case ServiceUnavailable(cause="timeout"):
                return 1  # it has had all the time that there is, and the others wait
        if not self.several:
            return STRIKES
        return 1 if self.suspected else STRIKES_OF_MANY


def may_pass(error: EmbeddingError) -> bool:
    """Whether a text that failed so may be taken another time, unchanged: the service didn't refuse it."""
    return not isinstance(error, InputRefused | BatchTooLarge)
