"""The settings of one walvec process, from `walvec.toml` and WALVEC_* variables.

Every command begins with `load_config`. The result is complete, checked and frozen: defaults that depend on
the provider are filled in and table names are parsed, so that no code further down has to check again. What
is wrong raises ConfigInvalid, which names the key, where it stands and what to write instead. It never shows
a value: any value may be a secret that was pasted in the wrong place.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self, cast

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from walvec.config.environment import Environment, find_variable, replace_vectorizers, spell_variable
from walvec.config.file import ConfigFile, KeyPath
from walvec.config.misread import ENCODE, VARIABLES, misread_part, names_part
from walvec.config.names import VECTORIZERS
from walvec.config.problems import explain_problems, keys_of, place_of, refusal
from walvec.config.sections import (
    EmbedderSettings,
    HttpSettings,
    Index,
    LogSettings,
    PipelineSettings,
    Provider,
    SourceSettings,
    TargetSettings,
    Vectorizer,
)
from walvec.config.table_name import TableName
from walvec.errors import ConfigInvalid

__all__ = [
    "Config",
    "EmbedderSettings",
    "HttpSettings",
    "Index",
    "LogSettings",
    "PipelineSettings",
    "Provider",
    "SourceSettings",
    "TableName",
    "TargetSettings",
    "Vectorizer",
    "load_config",
    "require_vectorizers",
]

# pgvector's hnsw takes this many of halfvec; it takes 2,000 of vector.
MAX_INDEXED_DIMENSIONS = 4_000


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Config(BaseSettings):
    """All settings; the environment wins over the file."""

    model_config = SettingsConfigDict(
        strict=True, frozen=True, extra="forbid", hide_input_in_errors=True, case_sensitive=True
    )

    source: SourceSettings = SourceSettings()
    target: TargetSettings = TargetSettings()
    embedder: EmbedderSettings = Field(default_factory=lambda: EmbedderSettings.model_validate({}))
    pipeline: PipelineSettings = PipelineSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    vectorizers: Annotated[tuple[Vectorizer, ...], BeforeValidator(_frozen)] = Field((), alias="vectorizer")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose tables are the arguments."""
        document = cast(InitSettingsSource, init_settings).init_kwargs
        return Environment(settings_cls, document, os.environ), init_settings

    @property
    def source_dsn(self) -> str:
        """The source's conninfo with its secrets; "" means libpq's PG* variables alone."""
        return self.source.dsn.get_secret_value()

    @property
    def target_dsn(self) -> str:
        """The target's conninfo with its secrets: the source's where none is set."""
        dsn = self.target.dsn.get_secret_value() if self.target.dsn else ""
        return dsn or self.source_dsn

    def vectorizer(self, name: str) -> Vectorizer | None:
        """Return the vectorizer of this name, None where none has it."""
        return next((vectorizer for vectorizer in self.vectorizers if vectorizer.name == name), None)

    @model_validator(mode="after")
    def _variables_of_libpq(self) -> Self:
        """Refuse PGHOST and its like where they complete a dsn with an impossible value."""
        for variable, part in VARIABLES.items():
            odd = misread_part(part, os.environ.get(variable, ""))
            for section, dsn in (("source", self.source_dsn), ("target", self.target_dsn)):
                if odd and not names_part(dsn, part):
                    raise refusal(f"is completed by {variable}, which {odd}", ENCODE, (section, "dsn"))
        return self

    @model_validator(mode="after")
    def _unique_names_and_targets(self) -> Self:
        names: dict[str, int] = {}
        targets: dict[TableName, int] = {}
        sources = {vectorizer.table for vectorizer in self.vectorizers}
        for number, vectorizer in enumerate(self.vectorizers):
            where = ("vectorizer", number)
            if names.setdefault(spell_variable(vectorizer.name), number) != number:
                raise refusal("is the name of another vectorizer too", "give each its own", (*where, "name"))
            if targets.setdefault(vectorizer.target, number) != number:
                raise refusal("is another vectorizer's target too", "give each its own", (*where, "target"))
            if vectorizer.target in sources and self.target_dsn == self.source_dsn:
                hint = f"for example {vectorizer.table}_embedding"
                raise refusal("is a source table", hint, (*where, "target"))
            if vectorizer.index == "hnsw" and self.embedder.dimensions > MAX_INDEXED_DIMENSIONS:
                raise refusal(
                    f"cannot be hnsw past {MAX_INDEXED_DIMENSIONS} dimensions",
                    'index = "none", or a model with fewer dimensions',
                    (*where, "index"),
                )
        return self


def load_config(path: Path | None = None) -> Config:
    """Read the settings from a file and the environment.

    `path` defaults to walvec.toml here. That file may be absent where WALVEC_VECTORIZER is set. Raises
    ConfigInvalid for everything that is wrong, at once.
    """
    file = ConfigFile.read(path, required=path is not None or VECTORIZERS not in os.environ)
    file = replace(file, document=replace_vectorizers(file.document, os.environ))

    def variable(key: KeyPath) -> str | None:
        return find_variable(key, file.document, os.environ)

    try:
        config = Config(**file.document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise explain_problems(problems, Config, file, variable) from None
    for number, vectorizer in enumerate(config.vectorizers):
        paths = {key: ("vectorizer", number, key) for key in keys_of(Vectorizer)}
        vectorizer.remember_places({key: place_of(path, file, variable) for key, path in paths.items()})
    return config


def require_vectorizers(config: Config) -> None:
    """Raise ConfigInvalid where no table is followed.

    A slot without a reader would keep WAL for nothing.
    """
    if not config.vectorizers:
        raise ConfigInvalid(
            "There is no [[vectorizer]], so nothing would be embedded",
            hint="`walvec init SCHEMA.TABLE --output -` prints one; `walvec teardown` drops a slot that is "
            "no longer needed",
        )
