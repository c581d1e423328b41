"""The sections of walvec.toml: keys, types, defaults and bounds.

`load` puts them together. docs/configuration.md describes every key; a test compares that page with these
models.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    SecretStr,
    Tag,
    field_validator,
    model_validator,
)

from walvec.config.misread import ENCODE, misread_url
from walvec.config.problems import refusal
from walvec.config.search_path import schemas
from walvec.config.table_name import MAX_NAME_BYTES, TableName
from walvec.config.values import Conninfo, Count, NotBlank, Section, TableSetting
from walvec.embed.local import LOCAL_DIMENSIONS, LOCAL_MODEL
from walvec_slots.failover import FailoverSetting
from walvec_slots.plugin import PluginSetting

MAX_DIMENSIONS = 16_000  # pgvector: vector and halfvec
MAX_PORT = 65_535
# PostgreSQL's bounds for logical_decoding_work_mem.
MIN_DECODING_KB, MAX_DECODING_KB = 64, 2_147_483_647
_KB_IN = {"kB": 1, "MB": 2**10, "GB": 2**20}

Provider = Literal["mistral", "openai", "local", "hashing", "python"]
Index = Literal["hnsw", "none"]
DistanceMetric = Literal["cosine", "l2", "ip"]


def _chunk_kind(value: object) -> str:
    return "<word>" if isinstance(value, str) else "<table>"


def _chunk_word(value: str) -> str:
    if value != "none":
        raise refusal('must be "none" or a table', "chunk = { size = 2000, overlap = 200 }")
    return value


class SourceSettings(Section):
    """The database whose changes are followed, and what walvec owns there."""

    dsn: Conninfo = SecretStr("")
    search_path: str = "pg_catalog"
    slot: str = "walvec"
    publication: NotBlank = "walvec"
    plugin: PluginSetting = "auto"
    failover: FailoverSetting = "auto"
    logical_decoding_work_mem: str | None = None

    @field_validator("failover", mode="before")
    @classmethod
    def _auto_or_not(cls, failover: object) -> object:
        if failover != "auto" and not isinstance(failover, bool):
            raise refusal('must be "auto", true or false', 'failover = "auto"')
        return failover

    @field_validator("logical_decoding_work_mem")
    @classmethod
    def _memory(cls, size: str | None) -> str | None:
        if size is None:
            return None
        match = re.fullmatch(r"([0-9]{1,10})(kB|MB|GB)", size)
        if not match or not MIN_DECODING_KB <= int(match[1]) * _KB_IN[match[2]] <= MAX_DECODING_KB:
            hint = 'for example logical_decoding_work_mem = "256MB"'
            raise refusal("is not a size from 64kB to 2047GB", hint)
        return size

    @field_validator("search_path")
    @classmethod
    def _schemas(cls, path: str) -> str:
        try:
            schemas(path)
        except ValueError as error:
            raise refusal(str(error), 'for example search_path = "pg_catalog, public"') from None
        return path

    @field_validator("slot")
    @classmethod
    def _slot_name(cls, slot: str) -> str:
        if not re.fullmatch(rf"[a-z0-9_]{{1,{MAX_NAME_BYTES}}}", slot):
            raise refusal(
                "is not a slot name", f"1 to {MAX_NAME_BYTES} lower-case letters, digits and underscores"
            )
        return slot

    @field_validator("publication")
    @classmethod
    def _publication_name(cls, publication: str) -> str:
        if len(publication.encode()) > MAX_NAME_BYTES:
            raise refusal("is too long", f"PostgreSQL's names have at most {MAX_NAME_BYTES} bytes")
        return publication


class TargetSettings(Section):
    """The database that gets the vectors; without a dsn it is the source."""

    dsn: Conninfo | None = None


# What a provider implies where the file is silent. `dimensions` goes with the default model only.
_PROVIDERS: Mapping[object, Mapping[str, Any]] = {
    "mistral": {"model": "mistral-embed", "dimensions": 1024, "api_key_env": "MISTRAL_API_KEY"},
    "openai": {"base_url": "https://api.openai.com/v1", "api_key_env": "OPENAI_API_KEY"},
    "local": {"model": LOCAL_MODEL, "dimensions": LOCAL_DIMENSIONS},
    "hashing": {"model": "hashing", "dimensions": 384},
    "python": {},
}


class EmbedderSettings(Section):
    """The service that turns text into vectors, and its limits."""

    provider: Provider = "mistral"
    model: NotBlank
    dimensions: Annotated[int, Field(ge=1, le=MAX_DIMENSIONS)]
    base_url: str | None = None
    api_key_env: str | None = None
    max_batch_inputs: Count = 128
    max_batch_tokens: Count = 16_000
    concurrency: Count = 8
    requests_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # 0: no limit
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0  # seconds

    @model_validator(mode="before")
    @classmethod
    def _provider_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        provider = given.get("provider", "mistral")
        defaults = dict(_PROVIDERS.get(provider, {}) if isinstance(provider, str) else {})
        if provider == "mistral" and given.get("model", defaults["model"]) != defaults["model"]:
            del defaults["dimensions"]
        return defaults | given

    @field_validator("base_url")
    @classmethod
    def _http_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", url):
            raise refusal("is not the address of a server", "http://host:port or https://host")
        if misread_url(url):
            raise refusal("has a port that is not a number, or an @ in its path", ENCODE)
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _variable_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise refusal(
                "is not the name of an environment variable",
                "write the variable's name here and the key into the variable",
            )
        return name

    @model_validator(mode="after")
    def _fits_provider(self) -> Self:
        api_root = self.base_url is not None and self.base_url.endswith("/v1")
        if self.provider == "openai" and not api_root:
            raise refusal("must end in /v1", "for example http://localhost:8000/v1", key="base_url")
        if self.provider == "mistral" and api_root:
            raise refusal("must not end in /v1", "write the server's root for mistral", key="base_url")
        if self.provider == "local" and self.model != LOCAL_MODEL:
            raise refusal("is not the local model", f'model = "{LOCAL_MODEL}", or leave it out', key="model")
        if self.provider == "local" and self.dimensions != LOCAL_DIMENSIONS:
            raise refusal(
                "are not those of the local model", f"dimensions = {LOCAL_DIMENSIONS}", key="dimensions"
            )
        if self.provider == "python" and not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", self.model):
            raise refusal("does not name a function", 'model = "module:function"', key="model")
        return self


class PipelineSettings(Section):
    """How changes are gathered, their share of memory, and what becomes of failures."""

    # Sessions that write at once.
    writers: Annotated[int, Field(ge=1, le=64)] = 4
    batch_rows: Count = 1000
    batch_delay: Annotated[float, Field(ge=0, le=60)] = 0.005  # seconds
    max_buffer_bytes: Annotated[int, Field(ge=65_536)] = 67_108_864
    parked_vectors: Literal["remove", "keep"] = "remove"
    # Of one vectorizer; 0: any number.
    max_dead_letters: Annotated[int, Field(ge=0)] = 1_000


class HttpSettings(Section):
    """The small server for /livez, /readyz and /metrics."""

    listen: str = "127.0.0.1:9187"  # "": off
    # Seconds from which it is not ready; 0: never.
    max_lag: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, listen: str) -> str:
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):([0-9]{1,5})", listen)
        if listen and not (match and int(match[2]) <= MAX_PORT):
            raise refusal("is not host:port", '127.0.0.1:9187, [::1]:9187, 0.0.0.0:9187, or "" for none')
        return listen

    @property
    def address(self) -> tuple[str, int] | None:
        """The host and port to listen on, None when off; port 0 takes any free one."""
        host, _, port = self.listen.rpartition(":")
        return (host.strip("[]"), int(port)) if self.listen else None


class LogSettings(Section):
    """What is said on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    # auto: console on a TTY, JSON otherwise.
    format: Literal["auto", "console", "json"] = "auto"


class ChunkSettings(Section):
    """The length of a chunk and the overlap of two neighbours, in characters."""

    size: Count = 2000
    overlap: Annotated[int, Field(ge=0)]

    @model_validator(mode="before")
    @classmethod
    def _tenth_overlaps(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(size := given.get("size", 2000), int):
            return given
        return {"overlap": size // 10} | given

    @model_validator(mode="after")
    def _overlap_within(self) -> Self:
        if self.overlap >= self.size:
            hint = f"for example overlap = {self.size // 10}"
            raise refusal("must be smaller than size", hint, key="overlap")
        return self


ChunkChoice = Annotated[
    Annotated[ChunkSettings, Tag("<table>")]
    | Annotated[Literal["none"], BeforeValidator(_chunk_word), Tag("<word>")],
    Discriminator(_chunk_kind),
]


class Vectorizer(Section):
    """One table, what of it is embedded, and the table that gets the vectors."""

    name: str
    table: TableSetting
    text: NotBlank
    where: NotBlank | None = None
    target: TableSetting
    chunk: ChunkChoice = ChunkSettings(size=2000, overlap=200)
    index: Index = "hnsw"
    metric: DistanceMetric = "cosine"

    _places: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def remember_places(self, places: Mapping[str, str]) -> None:
        """Keep where each key was set: "walvec.toml line 12", or a variable's name."""
        self._places = places

    def spot(self, key: str) -> str:
        """Name a key and where it was set, for messages about its value."""
        place = self._places.get(key)
        return f"{key} ({place})" if place else f'{key} of vectorizer "{self.name}"'

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not re.fullmatch(rf"[A-Za-z_][A-Za-z0-9_-]{{0,{MAX_NAME_BYTES - 1}}}", name):
            raise refusal(
                "is not usable as a name",
                f"a letter, then letters, digits, _ and -; at most {MAX_NAME_BYTES} characters",
            )
        return name

    @field_validator("target")
    @classmethod
    def _free_schema(cls, target: TableName) -> TableName:
        if target.schema in ("walvec", "pg_catalog", "information_schema"):
            hint = "for example public.blog_embedding"
            raise refusal(f"may not be in schema {target.schema}", hint)
        return target
