"""What an HTTP answer that brought no vectors means: status, headers and body -> one of `errors`. Pure.

The wording of services differs and changes; it is read here and goes no further, because it may quote the
texts or the key. Sources: reference answers of Mistral (400 code 3210), OpenAI (max_tokens_per_request,
array_above_max_length), Hugging Face TEI ("batch size 64 > maximum allowed batch size 32"), DashScope
("should not be larger than 10"), vLLM.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit

import orjson

from consumer.embed.errors import (
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

MESSAGE_MAX = 10_000  # characters of an error's wording that are looked at
RETRY_AFTER_MAX = 3600.0  # seconds; a service that asks for more is asked again after an hour

# What a status says of the service; any other 5xx is overload.
_UNAVAILABLE: Mapping[int, Cause] = {
    408: "timeout",
    504: "timeout",
    500: "crash",
    409: "overload",
    425: "overload",
}

_TOO_MANY_INPUTS = re.compile(
    r"too many inputs|batch size|array too long|array_above_max_length|(maximum|max) (number of )?inputs"
)
_TOO_MANY_TOKENS = re.compile(
    r"too many tokens|max_tokens_per_request|tokens per request|length limit exceeded|payload too large"
)
_LIMIT = re.compile(r"(?:max\w*|larger than|limit\w*)[^\d\n]{0,60}(\d+)")
_COUNTED = re.compile(r"(?:got|requested)[^\d\n]{0,60}(\d+)")
_SPOKEN = ("message", "msg", "error", "detail", "code", "type", "error_type")
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,40}")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer as it came from `service`, which is called as `service_at` calls it."""

    service: str
    status: int
    retry_after: str | None
    body: bytes

    def __repr__(self) -> str:
        return f"<HTTP {self.status} from {self.service}>"


def service_at(url: str) -> str:
    """How messages call the service: without the credentials and the path that its URL may hold."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"the embedding service at {parts.hostname}{port}"


def seconds_to_wait(retry_after: str | None, now: float) -> float | None:
    """Read a Retry-After header, seconds or an HTTP date; `now` is seconds since 1970. None if there is
    nothing to read.
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
    """The error for a request that got no answer; names what lies at the bottom of it: gaierror,
    SSLCertVerificationError...
    """
    root: BaseException = error
    while (deeper := root.__cause__ or root.__context__) is not None:
        root = deeper
    return ServiceUnavailable(f"{service} cannot be reached ({type(root).__name__})")


def timed_out(service: str, seconds: float) -> ServiceUnavailable:
    """The error for a request that took too long."""
    return ServiceUnavailable(
        f"{service} did not answer within {seconds:g} s",
        hint="if it is only slow, lower [embedder] max_batch_inputs or raise timeout",
        cause="timeout",
    )


def explain(answer: HttpAnswer, now: float) -> EmbeddingError:
    """The error that an answer without vectors amounts to; `now` is seconds since 1970."""
    code, message = _code_and_message(answer.body)
    what = f"{answer.service} answered {answer.status}{f' (code {code})' if code else ''}"
    wait = seconds_to_wait(answer.retry_after, now)
    if answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return BadAnswer(f"{what}, but with no embeddings in it", hint="check [embedder] base_url")
    if answer.status in _UNAVAILABLE or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServiceUnavailable(what, retry_after=wait, cause=_UNAVAILABLE.get(answer.status, "overload"))
    match answer.status:
        case 429:
            return RateLimited(what, retry_after=wait)
        case 401 | 402 | 403:
            return Unauthorized(what, hint="check the key that [embedder] api_key_env names, and its account")
        case 400 | 413 | 422:
            return _refusal(answer.status, what, message)
        case _:
            return Misconfigured(what, hint="check [embedder] base_url and model")


def mentions(answer: HttpAnswer, pattern: re.Pattern[str]) -> bool:
    """Whether the service gives such a reason."""
    return bool(pattern.search(_code_and_message(answer.body)[1]))


def _refusal(status: int, what: str, message: str) -> EmbeddingError:
    if _TOO_MANY_INPUTS.search(message):
        return _too_large("inputs", what, message)
    if _TOO_MANY_TOKENS.search(message) or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return _too_large("tokens", what, message)
    return InputRefused(what)


def _too_large(of: Literal["inputs", "tokens"], what: str, message: str) -> BatchTooLarge:
    limit, counted = _LIMIT.search(message), _COUNTED.search(message)
    return BatchTooLarge(
        f"{what}: too many {of} in one request",
        of=of,
        limit=int(limit[1]) if limit else None,
        counted=int(counted[1]) if counted else None,
    )


def _code_and_message(body: bytes) -> tuple[str | None, str]:
    """The error's code, where it is fit to be shown, and its wording in lower case, which never is."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, body[:MESSAGE_MAX].decode(errors="replace").lower()
    words = dict(_words(document))
    code = next((words[name] for name in ("code", "type", "error_type") if words.get(name)), "")
    return (code if _CODE.fullmatch(code) else None), "\n".join(words.values()).lower()[:MESSAGE_MAX]


def _words(document: object) -> Iterator[tuple[str, str]]:
    """What an error document says, by name. Validation errors quote their `input`: that stays out."""
    match document:
        case dict():
            for name, value in document.items():
                if isinstance(value, str | int) and name in _SPOKEN:
                    yield name, str(value)
                elif name in ("error", "detail"):
                    yield from _words(value)
        case list():
            for each in document[:10]:
                yield from _words(each)
        case _:
            return
