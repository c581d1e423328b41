"""Whose fault a failure is: the service's, or that of the texts sent. Pure.

1. A text is blamed only when the service has been seen to accept another one at the same time. While nothing
   is answered, not even the probe, the service is at fault: a wrong setting or a broken service must not park
   every row.
2. Overload, a rate limit and a broken connection are never a text's fault.
3. A blamed request of several texts is split. A single text is blamed once it has failed STRIKES times in a
   row while others were accepted; strikes are taken back when the probe fails too.
4. Splitting begins soon, because the other texts wait for it. Splitting the requests of a flaky service by
   mistake costs a few requests, and a text blamed by mistake is tried again later (`Refused.passes`).
"""

from dataclasses import dataclass
from typing import Literal

from walvec.embed.errors import BatchTooLarge, EmbeddingError, InputRefused, RateLimited, ServiceUnavailable

# How often in a row a single text must fail, each time while others are accepted.
STRIKES = 3
# The same for the first request of several texts. A part of a split request gets one strike.
STRIKES_OF_MANY = 2

Fault = Literal["texts", "service", "unclear"]


@dataclass(slots=True)
class Trial:
    """The attempts at one request, and the evidence against its texts.

    It does not hold the texts. `several` means that there are at least two; `suspected` means that the
    request is a part of one that was blamed. The counts of answers are the service's, to anybody.
    """

    several: bool
    suspected: bool
    # Attempts since the service was last found to be at fault.
    attempts: int = 0
    strikes: int = 0
    # The service's answers when the first of these attempts began, and when the latest one did.
    answered_first: int = 0
    answered: int = 0

    def begin(self, answered: int) -> None:
        """Note that an attempt begins, after `answered` answers to anybody."""
        if self.attempts == 0:
            self.answered_first = answered
        self.attempts += 1
        self.answered = answered

    def fault(self, error: EmbeddingError, answered: int) -> Fault:
        """Say whose fault the latest failure is; `unclear` leaves it to the probe."""
        match error:
            case BatchTooLarge() if self.several:
                return "texts"
            case InputRefused() | BatchTooLarge():
                # Splitting is cheap, so one answer at any time is proof enough. Refusing a text takes an
                # answer given since this attempt began.
                return "texts" if answered > (0 if self.several else self.answered) else "unclear"
            case RateLimited() | ServiceUnavailable(cause="network" | "overload"):
                return "service"
        return "unclear"

    def add_strike(self, error: EmbeddingError) -> bool:
        """Count a failure while the service accepts the probe.

        Returns whether the texts are to blame by now.
        """
        self.strikes += 1
        return self.strikes >= self._strikes_needed(error)

    def acquit(self) -> None:
        """Start over: the service was at fault."""
        self.attempts = self.strikes = 0

    def _strikes_needed(self, error: EmbeddingError) -> int:
        match error:
            case InputRefused() | BatchTooLarge():
                # The service itself says that it is the text.
                return 1
            case ServiceUnavailable(cause="timeout"):
                # The request has had all the time there is, and others wait behind it.
                return 1
        if not self.several:
            return STRIKES
        return 1 if self.suspected else STRIKES_OF_MANY


def may_pass(error: EmbeddingError) -> bool:
    """Whether a text that failed like this may be accepted later, unchanged."""
    return not isinstance(error, InputRefused | BatchTooLarge)
