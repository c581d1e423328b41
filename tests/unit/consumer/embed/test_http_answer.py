import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.embed.errors import (
    BadAnswer,
    BatchTooLarge,
    EmbeddingError,
    InputRefused,
    Misconfigured,
    RateLimited,
    ServiceUnavailable,
    Unauthorized,
)
from consumer.embed.http_answer import RETRY_AFTER_MAX, HttpAnswer, explain, seconds_to_wait, service_at

NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


def answer(status: int, message: str = "", *, retry_after: str | None = None) -> HttpAnswer:
    """An answer of a service whose errors are OpenAI's."""
    body = orjson.dumps({"error": {"message": message, "type": "invalid_request_error", "code": None}})
    return HttpAnswer("the service", status, retry_after, body)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, BadAnswer),
        (204, BadAnswer),
        (302, Misconfigured),
        (400, InputRefused),
        (401, Unauthorized),
        (402, Unauthorized),
        (403, Unauthorized),
        (404, Misconfigured),
        (405, Misconfigured),
        (408, ServiceUnavailable),
        (413, BatchTooLarge),
        (422, InputRefused),
        (429, RateLimited),
        (500, ServiceUnavailable),
        (503, ServiceUnavailable),
        (529, ServiceUnavailable),
    ],
)
def test_each_status_has_its_meaning(status: int, expected: type[EmbeddingError]) -> None:
    """The table at the top of `errors`."""
    assert type(explain(answer(status), NOW)) is expected


@pytest.mark.parametrize(
    ("message", "of", "limit", "counted"),
    [
        ("Too many tokens in batch. Max is 16384 got 17555", "tokens", 16384, 17555),
        ("Too many tokens overall, split into more batches.", "tokens", None, None),
        ("Too many inputs in request, split into more batches.", "inputs", None, None),
        ("Requested 346134 tokens, max 300000 tokens per request", "tokens", 300000, 346134),
        ("Invalid 'input': array too long. Expected an array with maximum length 2048", "inputs", 2048, None),
        ("batch size 136 > maximum allowed batch size 64", "inputs", 64, None),
        ("Value error, batch size is invalid, it should not be larger than 10.: input", "inputs", 10, None),
        ("Failed to buffer the request body: length limit exceeded", "tokens", None, None),
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_services_say_in_their_own_words_that_a_request_is_too_large(
    status: int, message: str, of: str, limit: int | None, counted: int | None
) -> None:
    """Words of Mistral, OpenAI, TEI and DashScope, as their users reported them."""
    error = explain(answer(status, message), NOW)
    assert isinstance(error, BatchTooLarge)
    assert (error.of, error.limit, error.counted) == (of, limit, counted)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens, however you requested 9001 tokens",
        "Input id 0 has 9000 tokens, exceeding max 8192 tokens.",
        "'$.input' is invalid. Please check the API reference",
    ],
)
def test_one_text_too_long_is_no_limit_of_the_request(message: str) -> None:
    """Nothing is learned from it; the text is found by bisecting."""
    assert type(explain(answer(400, message), NOW)) is InputRefused


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("1.5", 1.5),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("86400", RETRY_AFTER_MAX),
        ("soon", None),
        ("-3", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    """Never in the past, never past an hour; nonsense is as good as nothing."""
    assert seconds_to_wait(header, NOW) == seconds


@given(st.text(max_size=40))
@example("0\x1f")
def test_no_retry_after_is_too_odd_to_read(header: str) -> None:
    """Anything gives None or a number within bounds."""
    wait = seconds_to_wait(header, NOW)
    assert wait is None or 0 <= wait <= RETRY_AFTER_MAX


@pytest.mark.parametrize("status", [429, 500, 503])
def test_retry_after_goes_with_every_failure_that_passes(status: int) -> None:
    """Services send it with 429 and with 5xx."""
    assert explain(answer(status, retry_after="9"), NOW).retry_after == 9.0


@pytest.mark.parametrize(
    "body",
    [
        {"message": "canary", "code": "3210", "type": "invalid_request_prompt", "object": "error"},
        {"error": {"message": "canary", "code": "3210"}},
        {"error": "canary", "error_type": "Validation"},
        {
            "detail": [
                {"type": "string_type", "msg": "not a string: canary", "input": "canary", "loc": ["input"]}
            ]
        },
        {"detail": "canary", "code": "the canary sang"},
        ["canary"],
        "canary",
    ],
)
@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 422, 429, 500])
def test_messages_do_not_repeat_the_service(status: int, body: object) -> None:
    """A service's words may quote the text or the key."""
    error = explain(HttpAnswer("the service", status, None, orjson.dumps(body)), NOW)
    assert "canary" not in f"{error} {error!r} {error.args}"


def test_a_code_is_shown() -> None:
    """It is what the operator will look up."""
    body = orjson.dumps({"message": "Service tier capacity exceeded", "type": "x", "code": "3505"})
    assert (
        explain(HttpAnswer("the service", 429, None, body), NOW).what
        == "the service answered 429 (code 3505)"
    )


def test_quoted_input_is_not_taken_for_the_service_s_words() -> None:
    """A validation error repeats what it was sent; a text about batch sizes must not teach us a limit."""
    body = {"detail": [{"type": "value_error", "msg": "bad", "input": "too many inputs, maximum 1"}]}
    assert type(explain(HttpAnswer("the service", 422, None, orjson.dumps(body)), NOW)) is InputRefused


@given(st.integers(200, 599), st.binary(max_size=200))
def test_any_answer_means_something(status: int, body: bytes) -> None:
    """Whatever bytes come with whatever status."""
    assert isinstance(explain(HttpAnswer("the service", status, None, body), NOW), EmbeddingError)


def test_the_service_is_named_without_credentials() -> None:
    """base_url may hold some."""
    assert service_at("https://me:secret@host.example:8000/secret/v1?key=secret") == (
        "the embedding service at host.example:8000"
    )
