"""The types that several sections of the settings share, and their base."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, SecretStr

from walvec.config.misread import ENCODE, misread_dsn
from walvec.config.problems import refusal
from walvec.config.table_name import TableName


def _table_name(value: object) -> TableName:
    if isinstance(value, TableName):
        return value
    if not isinstance(value, str):
        raise refusal("must be a string", "schema.table")
    try:
        return TableName.parse(value)
    except ValueError as error:
        raise refusal(
            str(error), 'write schema.table, special parts in double quotes: public."My Table"'
        ) from None


def _conninfo(value: SecretStr) -> SecretStr:
    from psycopg import ProgrammingError

    try:
        odd = misread_dsn(value.get_secret_value())
    # Its message quotes the string.
    except ProgrammingError:
        raise refusal(
            "is not a connection string of libpq",
            "postgresql://user@host:5432/database, special characters percent-encoded; or host=… dbname=…",
        ) from None
    if odd:
        raise refusal(odd, ENCODE)
    return value


def _not_blank(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise refusal("is blank", "write a value, or leave the line out")
    return value


Conninfo = Annotated[SecretStr, AfterValidator(_conninfo)]
NotBlank = Annotated[str, AfterValidator(_not_blank)]
TableSetting = Annotated[TableName, PlainValidator(_table_name)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """One table of the file. Types are exact: "8" is not a number, 8 is not a string."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)
