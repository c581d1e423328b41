"""`walvec init`: a commented walvec.toml for the given tables.

Where the source can be reached, the text columns it has become the proposed expression; nothing is
changed there. A password never goes into the file.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from consumer.commands.init_template import FRAME, PROVIDERS, VECTORIZER
from consumer.config import Config, Source, TableName, Target
from consumer.database import Connection, connect_source
from consumer.errors import UsageInvalid
from consumer.table_name import MAX_NAME_BYTES
from slots.errors import PreconditionFailed, WalvecError
from slots.queries import load

STDOUT = Path("-")

# Column names that say: here is what the row is about.
_TELLING = re.compile(
    r"title|headline|subject|name|summary|abstract|description|caption|text|body|contents?|message|comment|notes?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column that holds text; `sql` is its name as an expression."""

    name: str
    sql: str
    not_null: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """A table and the columns of it to embed, out of all that hold text; none where nobody could look."""

    table: TableName
    columns: tuple[Column, ...] = ()
    all_columns: tuple[Column, ...] = ()


def write(
    tables: Sequence[str], *, dsn: str | None, provider: str, output: Path, force: bool, ask: bool
) -> None:
    """Write the file to `output` (`-`: stdout).

    Raises UsageInvalid where the file exists and `force` is off, or a name is none; PreconditionFailed
    where a table isn't there.
    """
    names = [_table(name) for name in tables]
    if provider not in PROVIDERS:
        raise UsageInvalid(f"{provider} is no provider", hint=f"known are {', '.join(PROVIDERS)}")
    if output != STDOUT and output.exists() and not force:
        raise UsageInvalid(f"{output} exists", hint="--force overwrites it, --output names another")
    proposals = asyncio.run(_look(names, dsn))
    if ask and sys.stdin.isatty() and sys.stderr.isatty():
        proposals = [_asked(proposal) for proposal in proposals]
    text = render(proposals, dsn=dsn, provider=provider)
    if output == STDOUT:
        sys.stdout.write(text)
        return
    with output.open("w" if force else "x", encoding="utf-8") as file:
        file.write(text)
    typer.echo(f"wrote {output}; look it over, then: walvec check", err=True)


def render(proposals: Sequence[Proposal], *, dsn: str | None, provider: str) -> str:
    """Compose the file's text."""
    names = _unique_names([proposal.table for proposal in proposals])
    vectorizers = [
        VECTORIZER.format(
            name=_quoted(name),
            table=_quoted(str(proposal.table)),
            text=_quoted(_expression(proposal.columns)),
            remark="" if proposal.columns else "  # <- write your columns here",
            target=_quoted(str(_target(proposal.table))),
        )
        for name, proposal in zip(names, proposals, strict=True)
    ]
    if not vectorizers:
        example = VECTORIZER.format(
            name='"blog"',
            table='"public.blog"',
            text='"title"',
            remark="",
            target='"public.blog_embedding"',
        )
        vectorizers = ["".join(f"# {line}\n" for line in example.splitlines())]
    return FRAME.format(dsn=_dsn_line(dsn), embedder=PROVIDERS[provider], vectorizers="\n".join(vectorizers))


def _table(name: str) -> TableName:
    try:
        return TableName.parse(name)
    except ValueError as error:
        raise UsageInvalid(f"{name!r} {error}", hint="write schema.table") from None


async def _look(tables: Sequence[TableName], dsn: str | None) -> list[Proposal]:
    """Propose columns as the database has them; without one to ask, none."""
    if not tables:
        return []
    given = dsn if dsn is not None else os.environ.get("WALVEC_SOURCE__DSN", "")
    try:
        connection = await connect_source(_source_alone(given), role="init")
    except WalvecError as error:
        if given:
            raise
        typer.echo(f"not looked at the tables: {error.what}", err=True)
        return [Proposal(table) for table in tables]
    async with connection:
        return [await _propose(connection, table) for table in tables]


def _source_alone(dsn: str) -> Config:
    """Make the part of a configuration that connecting needs; there is no file yet."""
    return Config.model_construct(source=Source(dsn=SecretStr(dsn)), target=Target())


async def _propose(connection: Connection, table: TableName) -> Proposal:
    """Choose the columns whose name says that they tell what a row is about; if none does, all.

    Raises PreconditionFailed where the table isn't there.
    """
    cursor = await connection.execute(load("init.sql")["text_columns"], table._asdict())
    rows = await cursor.fetchall()
    if not rows:
        raise PreconditionFailed(
            f"there is no table {table}", hint="names are spelt exactly, as schema.table"
        )
    every = tuple(
        Column(name, sql, not_null) for name, sql, not_null, is_text, in_key in rows if is_text and not in_key
    )
    telling = tuple(column for column in every if _TELLING.fullmatch(column.name))
    return Proposal(table, telling or every, every)


def _asked(proposal: Proposal) -> Proposal:
    """Let the operator choose among the columns that were found."""
    if len(proposal.all_columns) < 2:  # noqa: PLR2004 -- there is nothing to choose
        return proposal
    known = {column.name: column for column in proposal.all_columns}
    typer.echo(f"{proposal.table} has text in {', '.join(known)}", err=True)
    default = ", ".join(column.name for column in proposal.columns)
    while True:
        words = typer.prompt("columns to embed", default=default, err=True).split(",")
        chosen = [word.strip() for word in words]
        if not (unknown := [name for name in chosen if name not in known]):
            return replace(proposal, columns=tuple(known[name] for name in chosen))
        typer.echo(f"not among them: {', '.join(unknown)}", err=True)


def _expression(columns: Sequence[Column]) -> str:
    """Compose SQL that joins the columns by blank lines; one that is NULL leaves no trace."""
    names = [column.sql for column in columns] or ["contents"]
    if len(names) == 1:
        return names[0]
    if all(column.not_null for column in columns):
        return r" || E'\n\n' || ".join(names)
    return rf"concat_ws(E'\n\n', {', '.join(names)})"


def _target(table: TableName) -> TableName:
    suffix = "_embedding"
    stem = table.name.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore")
    return TableName(table.schema, stem + suffix)


def _unique_names(tables: Sequence[TableName]) -> list[str]:
    """Name each vectorizer after its table, with the schema where two tables share a name."""
    names: list[str] = []
    for table in tables:
        name = re.sub(r"\W", "_", table.name, flags=re.ASCII)[: MAX_NAME_BYTES - 1]
        name = name if re.match(r"[A-Za-z_]", name) else f"_{name}"
        if name in names:
            name = re.sub(r"\W", "_", f"{table.schema}_{table.name}", flags=re.ASCII)[:MAX_NAME_BYTES]
        names.append(name)
    return names


def _dsn_line(dsn: str | None) -> str:
    if dsn and not conninfo_to_dict(dsn).get("password"):
        return f"dsn = {_quoted(dsn)}"
    remark = (
        "  # has a password: set WALVEC_SOURCE__DSN" if dsn else "  # or WALVEC_SOURCE__DSN, or PG* variables"
    )
    return f'# dsn = "postgresql://localhost/app"{remark}'


def _quoted(text: str) -> str:
    """Write a TOML string: JSON's escapes are a subset of TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
