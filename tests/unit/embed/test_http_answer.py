import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
from walvec.embed.http_answer import (
    RETRY_AFTER_MAX,
    HttpAnswer,
    error_from_answer,
    seconds_to_wait,
    service_at,
)

NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


def answer(status: int, message: str = "", *, retry_after: str | None = None) -> HttpAnswer:
    """Return an answer of a service whose errors look like OpenAI's."""
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
        (424, ServiceUnavailable),
        (422, InputRefused),
        (429, RateLimited),
        (500, ServiceUnavailable),
        (503, ServiceUnavailable),
        (529, ServiceUnavailable),
    ],
)
def test_each_status_has_its_meaning(status: int, expected: type[EmbeddingError]) -> None:
    """A status without words means what the table in `errors` says."""
    assert type(error_from_answer(answer(status), NOW)) is expected


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
        (
            "The max allowed tokens per submitted batch is 120,000. Your batch has 130,000",
            "tokens",
            120_000,
            130_000,
        ),
        ("total number of texts must be at most 96 - received 100", "inputs", 96, 100),
        ("Too many inputs. The max number of inputs is 16.", "inputs", 16, None),
        (
            "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch",
            "inputs",
            100,
            None,
        ),
        ("Request to text-embedding-3-small: too many tokens overall", "tokens", None, None),
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_services_say_in_their_own_words_that_a_request_is_too_large(
    status: int, message: str, of: str, limit: int | None, counted: int | None
) -> None:
    """The words of Mistral, OpenAI, TEI, DashScope and others are understood."""
    error = error_from_answer(answer(status, message), NOW)
    assert isinstance(error, BatchTooLarge)
    assert (error.of, error.limit, error.counted) == (of, limit, counted)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens, however you requested 9001 tokens",
        "Input id 0 has 9000 tokens, exceeding max 8192 tokens.",
        "Input validation error: `inputs` must have less than 512 tokens. Given: 604",
        "the input length exceeds the context length",
        "input (600 tokens) is too large to process. increase the physical batch size",
        "input is too large to process. increase the physical batch size",
        "The example at index 0 in your batch has too many tokens and does not fit into the context window",
        "Single text cannot exceed 8194 tokens. 9000 tokens given.",
        "Range of input length should be [1, 2048]",
        "Invalid 'input[3]': string too long. Expected a string with maximum length 1048576",
        "String should have at most 8192 characters",
        "litellm.BadRequestError: This model's maximum context length is 512 tokens",
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_one_text_too_long_is_no_limit_of_the_request(status: int, message: str) -> None:
    """A text that is too long teaches no limit; splitting finds it."""
    assert type(error_from_answer(answer(status, message), NOW)) is InputRefused


@pytest.mark.parametrize(
    ("status", "expected"), [(400, InputRefused), (500, ServiceUnavailable), (503, ServiceUnavailable)]
)
def test_a_text_that_is_only_named_is_not_called_too_long(
    status: int, expected: type[EmbeddingError]
) -> None:
    """A crash that names an input is still a crash, which may pass."""
    error = error_from_answer(answer(status, "Could not process input 3 of your batch"), NOW)
    assert type(error) is expected
    assert "longer" not in error.what


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            (
                "Request too large for text-embedding-3-small in organization o on tokens per min (TPM): "
                "Limit 3000, Requested 4617. The input or output tokens must be reduced."
            ),
            BatchTooLarge,
        ),
        ("Rate limit exceeded: limit 1,000, requested 1,001", BatchTooLarge),
        (
            (
                "Rate limit reached for text-embedding-3-small in organization o on tokens per min (TPM): "
                "Limit 1000000, Used 999999, Requested 4617. Please try again in 276ms."
            ),
            RateLimited,
        ),
        (
            "Rate limit reached for requests: Limit 3, Used 3, Requested 1. Please try again in 20s.",
            RateLimited,
        ),
        ("Too many tokens, please wait before trying again.", RateLimited),
        ("Requests rate limit exceeded", RateLimited),
        ("Model is overloaded", RateLimited),
        ("You exceeded your current quota, please check your plan and billing details.", Unauthorized),
        (
            (
                "You exceeded your current quota, please check your plan and billing details. Quota exceeded "
                "for metric: embed_content_free_tier_requests, limit: 100. Please retry in 39.9s."
            ),
            RateLimited,
        ),
        ("Your credit balance is too low", Unauthorized),
    ],
)
def test_429_means_different_things(message: str, expected: type[EmbeddingError]) -> None:
    """The words of a 429 decide: later, never in this size, or never at all."""
    assert type(error_from_answer(answer(429, message), NOW)) is expected


def test_the_minute_s_limit_is_the_request_s() -> None:
    """A limit a minute is learned like any other; a digit in a model's name is none."""
    message = "Request too large for text-embedding-3-small on TPM: Limit 3000, Requested 4617"
    error = error_from_answer(answer(429, message), NOW)
    assert isinstance(error, BatchTooLarge)
    assert (error.of, error.limit, error.counted) == ("tokens", 3000, 4617)


@pytest.mark.parametrize("status", [400, 402, 403, 429])
@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached", "insufficient_balance"])
def test_an_account_without_credit_is_named_with_what_to_do(status: int, code: str) -> None:
    """The code decides, in whatever field it is, and even where a wait is asked for."""
    for body in ({"error": {"message": "No.", "code": code}}, {"message": "No.", "type": code}):
        error = error_from_answer(HttpAnswer("the service", status, "9", orjson.dumps(body)), NOW)
        assert type(error) is Unauthorized
        assert "credit" in str(error.hint)


@pytest.mark.parametrize(
    ("status", "message", "expected", "setting"),
    [
        (400, "API key not valid. Please pass a valid API key.", Unauthorized, "api_key_env"),
        (401, "Incorrect API key provided: sk-canary", Unauthorized, "api_key_env"),
        (400, "Invalid model: mistral-embd", Misconfigured, "model"),
        (400, "The model `m` does not exist or you do not have access to it.", Misconfigured, "model"),
        (404, 'model "nomic" not found, try pulling it first', Misconfigured, "model"),
    ],
)
def test_a_wrong_key_or_model_is_no_fault_of_a_text(
    status: int, message: str, expected: type[EmbeddingError], setting: str
) -> None:
    """A 400 about the key or the model blames no text; the hint names the setting."""
    error = error_from_answer(answer(status, message), NOW)
    assert type(error) is expected
    assert setting in str(error.hint)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (429, RateLimited),
        (503, ServiceUnavailable),
        (400, InputRefused),
        ("upstream", BadAnswer),
        (None, BadAnswer),
    ],
)
def test_a_failure_within_a_200_is_one(code: object, expected: type[EmbeddingError]) -> None:
    """OpenRouter sends the failures of other providers with a 200."""
    body = orjson.dumps({"error": {"message": "Provider returned error", "code": code}})
    assert type(error_from_answer(HttpAnswer("the service", 200, None, body), NOW)) is expected


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"error": {"message": "base64 is not supported"}}, {"encoding_format"}),
        ({"error": {"message": "No.", "param": "dimensions"}}, {"dimensions", "output_dimension"}),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "encoding_format"]}]}, {"encoding_format"}),
        ({"detail": [{"msg": "No", "loc": ["body", "input", 3], "input": "encoding_format"}]}, set()),
    ],
)
def test_the_option_that_a_service_names_is_known(body: object, names: set[str]) -> None:
    """An option is found in the words or the path of an error, never in quoted input."""
    assert error_from_answer(HttpAnswer("the service", 422, None, orjson.dumps(body)), NOW).names == names


@pytest.mark.parametrize(
    "message",
    [
        {"detail": [{"msg": "first"}, {"msg": "too many inputs, max 7"}, {"msg": "last"}]},
        {"error": {"message": "Provider error", "metadata": {"raw": "too many inputs, max 7"}}},
        [{"error": {"message": "too many inputs, max 7", "status": "INVALID_ARGUMENT"}}],
        {"errors": [{"code": 5006, "message": "too many inputs, max 7"}]},
    ],
)
def test_all_of_the_service_s_words_are_read(message: object) -> None:
    """Words are found wherever FastAPI, OpenRouter, Google or Cloudflare put them."""
    error = error_from_answer(HttpAnswer("the service", 400, None, orjson.dumps(message)), NOW)
    assert isinstance(error, BatchTooLarge)
    assert error.limit == 7


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
    """The wait is between 0 and an hour; nonsense counts as no wait."""
    assert seconds_to_wait(header, NOW) == seconds


@given(st.text(max_size=40))
@example("0\x1f")
def test_no_retry_after_is_too_odd_to_read(header: str) -> None:
    """Any header gives None or a number within bounds."""
    wait = seconds_to_wait(header, NOW)
    assert wait is None or 0 <= wait <= RETRY_AFTER_MAX


@pytest.mark.parametrize("status", [429, 500, 503])
def test_retry_after_goes_with_every_failure_that_passes(status: int) -> None:
    """Services send Retry-After with a 429 and with a 5xx."""
    assert error_from_answer(answer(status, retry_after="9"), NOW).retry_after == 9.0


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
    """A message never holds the service's words, which may quote the text or the key."""
    error = error_from_answer(HttpAnswer("the service", status, None, orjson.dumps(body)), NOW)
    assert "canary" not in f"{error} {error!r} {error.args}"


def test_a_code_is_shown() -> None:
    """A message holds the service's error code, for the operator to look up."""
    body = orjson.dumps({"message": "Service tier capacity exceeded", "type": "x", "code": "3505"})
    assert (
        error_from_answer(HttpAnswer("the service", 429, None, body), NOW).what
        == "the service answered 429 (code 3505)"
    )


def test_quoted_input_is_not_taken_for_the_service_s_words() -> None:
    """A quoted text about batch sizes teaches no limit."""
    body = {"detail": [{"type": "value_error", "msg": "bad", "input": "too many inputs, maximum 1"}]}
    assert (
        type(error_from_answer(HttpAnswer("the service", 422, None, orjson.dumps(body)), NOW)) is InputRefused
    )


@given(st.integers(200, 599), st.binary(max_size=200))
def test_any_answer_means_something(status: int, body: bytes) -> None:
    """Any bytes with any status mean one of the errors."""
    assert isinstance(error_from_answer(HttpAnswer("the service", status, None, body), NOW), EmbeddingError)


def test_the_service_is_named_without_credentials() -> None:
    """The name leaves out the credentials that base_url may hold."""
    assert service_at("https://me:secret@host.example:8000/secret/v1?key=secret") == (
        "The embedding service at host.example:8000"
    )
