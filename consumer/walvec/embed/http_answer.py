"""An HTTP answer without vectors -> the error that it means. Pure.

The message is read before the status, because services use the same status for different things; `wording`
knows their words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit

from walvec.embed.errors import (
    BadAnswer,
    BatchTooLarge,
    Cause,
    EmbeddingError,
    InputRefused,
    Misconfigured,
    RateLimited,
    ServiceUnavailable,
    Unauthorized,
)
from walvec.embed.wording import Said, read_body

# The longest Retry-After, in seconds, that is respected.
RETRY_AFTER_MAX = 3600.0

# What a status says about the service; any other 5xx is overload. TEI sends 424 for its own failures.
_UNAVAILABLE: Mapping[int, Cause] = {
    408: "timeout",
    504: "timeout",
    500: "crash",
    424: "crash",
    409: "overload",
    425: "overload",
}

_KEY_HINT = "check the key that [embedder] api_key_env names, and its account"
_ACCOUNT_HINT = "add credit to the provider's account, or raise its limit: waiting does not help"
_URL_HINT = "check [embedder] base_url"
_MODEL_HINT = "set [embedder] model to a model that this service has"
_SETTINGS_HINT = "check [embedder] base_url and model"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer as it came; `service` is what `service_at` returned."""

    service: str
    status: int
    retry_after: str | None
    body: bytes

    def __repr__(self) -> str:
        return f"<HTTP {self.status} from {self.service}>"


def service_at(url: str) -> str:
    """Return what messages call the service: no credentials, no path of its URL."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"The embedding service at {parts.hostname}{port}"


def seconds_to_wait(retry_after: str | None, now: float) -> float | None:
    """Read a Retry-After header, which holds seconds or an HTTP date.

    `now` is in seconds since 1970. Returns None if the header is missing or unreadable.
    """
    if retry_after is None:
        return None
    if number := re.fullmatch(r"\s*([0-9]{1,9}(\.[0-9]*)?)\s*", retry_after):
        seconds = float(number[1])
    else:
        try:
            date = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    return min(max(seconds, 0.0), RETRY_AFTER_MAX)


def unreachable(service: str, error: Exception) -> ServiceUnavailable:
    """Return the error for a request that got no answer.

    It names the root cause, such as gaierror or SSLCertVerificationError.
    """
    root: BaseException = error
    while (deeper := root.__cause__ or root.__context__) is not None:
        root = deeper
    return ServiceUnavailable(f"{service} cannot be reached ({type(root).__name__})")


def timed_out(service: str, seconds: float) -> ServiceUnavailable:
    """Return the error for a request that took too long."""
    return ServiceUnavailable(
        f"{service} did not answer within {seconds:g} s",
        hint="if it is only slow, lower [embedder] max_batch_inputs or raise [embedder] timeout",
        cause="timeout",
    )


def error_from_answer(answer: HttpAnswer, now: float) -> EmbeddingError:
    """Return the error that an answer without vectors means.

    `now` is in seconds since 1970.
    """
    said = read_body(answer.body)
    what = f"{answer.service} answered {answer.status}{f' (code {said.code})' if said.code else ''}"
    wait = seconds_to_wait(answer.retry_after, now)
    if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
        status = answer.status
    elif said.failed and said.status:
        # OpenRouter sends its failures with a 200.
        status = said.status
    else:
        return BadAnswer(f"{what}, but without embeddings", hint=_URL_HINT, names=said.fields)
    return _by_words(said, status, what, wait) or _by_status(said, status, what, wait)


def _by_words(said: Said, status: int, what: str, wait: float | None) -> EmbeddingError | None:
    match meaning := said.means(status, has_wait=wait is not None):
        case "account":
            return Unauthorized(f"{what}: the account is out of credit", hint=_ACCOUNT_HINT)
        case "key":
            return Unauthorized(what, hint=_KEY_HINT)
        case "moment":
            return RateLimited(what, retry_after=wait)
        case "model":
            return Misconfigured(f"{what}: it does not have the model", hint=_MODEL_HINT, names=said.fields)
        case "input":
            return InputRefused(f"{what}: a text is longer than the model takes", names=said.fields)
        case _:
            return _too_large(meaning, said, what) if meaning else None


def _by_status(said: Said, status: int, what: str, wait: float | None) -> EmbeddingError:
    if status in _UNAVAILABLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServiceUnavailable(
            what, retry_after=wait, cause=_UNAVAILABLE.get(status, "overload"), names=said.fields
        )
    match status:
        case 401 | 403:
            return Unauthorized(what, hint=_KEY_HINT)
        case 402:
            return Unauthorized(what, hint=_ACCOUNT_HINT)
        case 400 | 422:
            return InputRefused(what, names=said.fields)
        case 413:
            return _too_large("tokens", said, what)
        case _:
            return Misconfigured(what, hint=_SETTINGS_HINT, names=said.fields)


def _too_large(of: Literal["inputs", "tokens"], said: Said, what: str) -> BatchTooLarge:
    return BatchTooLarge(
        f"{what}: too many {of} in one request", of=of, limit=said.limit, counted=said.counted
    )
