"""The body of a failure -> its words, code and fields -> what they mean. Pure.

Wording differs between services and changes over time. It is read here and goes no further, because it may
quote the texts or the key. Sources: error answers of OpenAI, Mistral, Gemini, Voyage, Cohere, Jina,
DashScope, Bedrock, OpenRouter, LiteLLM, vLLM, Hugging Face TEI, llama.cpp and Ollama, as reported by users.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

import orjson

# account: it is out of credit. moment: too much for now. key, model: unknown to the service. input: one text
# is too long. inputs, tokens: the request holds too many.
Meaning = Literal["account", "moment", "key", "model", "input", "inputs", "tokens"]

# The most characters of an error's wording that are read.
MESSAGE_MAX = 10_000

_SPOKEN = frozenset(
    ("message", "msg", "error", "detail", "code", "type", "error_type", "status", "title", "raw")
)
_NESTED = frozenset(("error", "errors", "detail", "metadata"))
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,40}")

# A number that is not part of a name, such as the 3 of text-embedding-3-small.
_NUMBER = r"(?<![\w-])(\d{1,3}(?:,\d{3})+|\d+)(?![\w-])"
_LIMIT = re.compile(rf"(?:max\w*|larger than|limit\w*|at most|exceed|less than)[^\d\n]{{0,60}}{_NUMBER}")
_COUNTED = re.compile(rf"(?:got|requested|received|given|has|contains)[^\d\n]{{0,60}}{_NUMBER}")
_MORE_THAN_EVER = re.compile(rf"\blimit:?\s+{_NUMBER}[^\n]*?\brequested:?\s+{_NUMBER}")

_NO_CREDIT = re.compile(
    r"insufficient[_ ](quota|funds|balance|credits?)|billing_hard_limit|billing_not_active|arrearage"
)
_ACCOUNT = re.compile(
    r"exceeded your current quota|check your plan|credit balance|payment required"
    r"|(out of|no|not enough|insufficient|run out of|more) credits?\b"
    r"|(account|subscription|plan)[^\n]{0,40}(not active|inactive|suspended|deactivated|expired|overdue)"
    r"|(spend\w*|usage|hard)[_ ](limit|cap)"
)
_MOMENT = re.compile(
    r"per[ _-]?(second|minute|min|hour|day)|retry (in|after)|try again|rate[ _-]?limit|\b[rt]p[mds]\b"
)
_KEY = re.compile(
    r"(invalid|incorrect|missing|wrong|no|expired)[_ ](x-)?api[_ -]?key|unauthenticated|unauthorized"
    r"|api[_ -]?key[^\n]{0,30}(not valid|invalid|missing|expired|required|not found|not provided)"
)
_MODEL = re.compile(
    r"model_not_found|invalid_model|(unknown|no such|invalid) model\b"
    r"|\bmodel [^\n]{0,80}(does not exist|not found|is not (available|loaded|served)|not a valid model)"
)
# A length is that of one input. A number of tokens or bytes may be too, if the words mention one input.
_LENGTH = re.compile(
    r"context (length|window)|max_(model|seq|sequence)_len|must have less than \d+ tokens"
    r"|\b(input|text|sequence|prompt|string|document)s?[ _]length"
    r"|\b(input|text|sequence|prompt|string|document|chunk)s?\b"
    r"((?!array|list|body)[^\n]){0,30} too (long|large)"
    r"|string too long|string_(too_long|above_max_length)|should have at most \d+ characters"
)
_ONE = re.compile(
    r"\b(input|text|document|string|example|item)\b( at)?( index| id)?[ \[#]{1,2}\d+"
    r"|\b(single|each|one|every|per) (text|input|document|string|item)\b"
)
_EXCESS = re.compile(r"exceed|too (long|large|many)|at most|maximum|larger than|longer than|limit")
_TOO_MANY_INPUTS = re.compile(
    r"too many (inputs|texts|items|documents)|batch size|(array|list) (is )?too long|array_above_max_length"
    r"|(maximum|max|at most|total)( number of)?( \d+)? (inputs|texts|items|documents)"
    r"|at most \d+ requests can be in one batch"
)
_TOO_MANY_TOKENS = re.compile(
    r"too many (input |total )?tokens|max_tokens_per_request|tokens per (request|submitted batch)"
    r"|length limit exceeded|(payload|request( body| entity)?) (is )?too large"
)

# The options that walvec adds by itself, and the words by which a service names them.
_FIELDS = {
    "encoding_format": re.compile("encoding[_ ]format|base64"),
    "dimensions": re.compile(r"\bdimension|matryoshka"),
    "output_dimension": re.compile(r"dimension|matryoshka"),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What a body says.

    `words` are in lower case and never shown; `code` is set if it may be shown. `fields` are those that
    walvec adds to a request by itself. `failed`: the body calls itself an error, whatever the HTTP status
    is; `status` is the one given in the body.
    """

    words: str
    code: str | None = None
    fields: frozenset[str] = frozenset()
    failed: bool = False
    status: int | None = None

    def means(self, status: int, *, has_wait: bool) -> Meaning | None:
        """Return what the words say about a failure of this status, if anything.

        `has_wait`: the service said when to come back, so it means the moment and not the account.
        """
        passes = has_wait or bool(_MOMENT.search(self.words))
        if _NO_CREDIT.search(self.words) or (_ACCOUNT.search(self.words) and not passes):
            return "account"
        # What a 429 says about sizes concerns a minute's total, unless the request could never pass.
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return "tokens" if self._asks_more_than_ever_passes() else "moment"
        # A failing proxy may say either about the service behind it, so a 5xx proves neither.
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            if _KEY.search(self.words):
                return "key"
            if _MODEL.search(self.words):
                return "model"
        return self._too_large_part()

    def _too_large_part(self) -> Meaning | None:
        """Return what is too large: one input, or the request's inputs or tokens."""
        if _LENGTH.search(self.words) or (_ONE.search(self.words) and _EXCESS.search(self.words)):
            return "input"
        if _TOO_MANY_INPUTS.search(self.words):
            return "inputs"
        return "tokens" if _TOO_MANY_TOKENS.search(self.words) else None

    def _asks_more_than_ever_passes(self) -> bool:
        if numbers := _MORE_THAN_EVER.search(self.words):
            return _read_integer(numbers[2]) > _read_integer(numbers[1])
        return "request too large" in self.words

    @property
    def limit(self) -> int | None:
        """The limit that the words name."""
        return _first_number(_LIMIT, self.words)

    @property
    def counted(self) -> int | None:
        """The number that the service says it received."""
        return _first_number(_COUNTED, self.words)


def read_body(body: bytes) -> Said:
    """Read the body of an answer that brought no vectors."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Said(body[:MESSAGE_MAX].decode(errors="replace").lower())
    pairs = list(_spoken_words(document))
    words = "\n".join(value for _, value in pairs).lower()[:MESSAGE_MAX]
    said = dict(reversed(pairs))
    code = next((said[name] for name in ("code", "type", "error_type") if said.get(name)), "")
    status = int(code) if re.fullmatch("[45][0-9]{2}", code) else None
    named = "\n".join(_faulty_fields(document)).lower()
    return Said(
        words,
        code if _CODE.fullmatch(code) else None,
        frozenset(field for field, pattern in _FIELDS.items() if pattern.search(f"{words}\n{named}")),
        failed=isinstance(document, dict) and bool(document.get("error")),
        status=status,
    )


def _spoken_words(document: object) -> Iterator[tuple[str, str]]:
    """Yield what an error document says, by name.

    Validation errors quote their `input`, which is left out.
    """
    match document:
        case dict():
            for name, value in document.items():
                if isinstance(value, str | int) and name.lower() in _SPOKEN:
                    yield name.lower(), str(value)
                elif name.lower() in _NESTED:
                    yield from _spoken_words(value)
        case list():
            for member in document[:10]:
                yield from _spoken_words(member)
        case _:
            return


def _faulty_fields(document: object) -> Iterator[str]:
    """Yield the names of faulty fields: OpenAI's `param`, pydantic's `loc`."""
    match document:
        case dict():
            for name, value in document.items():
                if name == "param" and isinstance(value, str):
                    yield value
                elif name == "loc" and isinstance(value, list):
                    yield from (part for part in value if isinstance(part, str))
                elif name in _NESTED:
                    yield from _faulty_fields(value)
        case list():
            for member in document[:10]:
                yield from _faulty_fields(member)
        case _:
            return


def _first_number(pattern: re.Pattern[str], words: str) -> int | None:
    found = pattern.search(words)
    return _read_integer(found[1]) if found else None


def _read_integer(digits: str) -> int:
    """Read a number of at most 12 digits; no limit has more."""
    return int(digits.replace(",", "")[:12])
