"""`walvec init`: writes a commented walvec.toml.

If the source can be reached, its text columns become the proposed expressions, with a comment that says why.
Nothing is changed there. A password never goes into the file.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

import typer
from psycopg.conninfo import conninfo_to_dict

from walvec.commands.init.proposal import Proposal, TextColumn, lengths_of, propose
from walvec.commands.init.template import FRAME, PROVIDERS, VECTORIZER
from walvec.commands.output import say
from walvec.config.environment import spell_variable
from walvec.config.load import TableName
from walvec.config.masking import SECRETS
from walvec.config.search_path import spell_path
from walvec.config.table_name import MAX_NAME_BYTES
from walvec.errors import UsageInvalid

STDOUT = Path("-")


def write(
    tables: Sequence[str], *, dsn: str | None, provider: str, output: Path, force: bool, ask: bool
) -> None:
    """Write the file to `output` (`-` is stdout).

    Raises UsageInvalid if the file exists and `force` is off, or a name or the DSN is malformed;
    PreconditionFailed if a table cannot be followed.
    """
    names = list(dict.fromkeys(_table(name) for name in tables))
    if provider not in PROVIDERS:
        raise UsageInvalid(f'Unknown provider "{provider}"', hint=f"choose one of {', '.join(PROVIDERS)}")
    if output != STDOUT and output.exists() and not force:
        raise UsageInvalid(
            f"{output} exists", hint="overwrite it with --force, or choose another with --output"
        )
    found = asyncio.run(propose(names, dsn))
    proposals = found.proposals
    if ask and sys.stdin.isatty() and sys.stderr.isatty():
        if not names:
            proposals = _chosen(proposals)
        proposals = tuple(_asked(proposal) for proposal in proposals)
    text = render_config(
        proposals, dsn=dsn, provider=provider, left_out=found.left_out, schemas=found.schemas
    )
    if found.schemas:
        say(f"search_path of expressions: {spell_path(found.schemas)}, as in the database", err=True)
    if output == STDOUT:
        sys.stdout.write(text)
        return
    with output.open("w" if force else "x", encoding="utf-8") as file:
        file.write(text)
    say(f"wrote {output}; review it, then: walvec check", err=True)


def render_config(
    proposals: Sequence[Proposal],
    *,
    dsn: str | None,
    provider: str,
    left_out: Sequence[str] = (),
    schemas: Sequence[str] = (),
) -> str:
    """Compose the text of the file.

    `left_out` says which tables are not proposed, and why. `schemas` are those in which names in expressions
    are looked up, after PostgreSQL's own.
    """
    tables = [proposal.table for proposal in proposals]
    vectorizers = [
        _why(proposal)
        + VECTORIZER.format(
            name=_quoted(name),
            table=_quoted(str(proposal.table)),
            text=_quoted(_expression(proposal.columns)),
            remark="" if proposal.columns else "  # <- write your columns here",
            target=_quoted(str(target)),
        )
        for name, target, proposal in zip(_names(tables), _targets(tables), proposals, strict=True)
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
    if left_out:
        vectorizers.append("# Left out:\n" + "".join(_remark(f"  {reason}") for reason in left_out))
    path = f"search_path = {_quoted(spell_path(schemas))}"
    path = f"{path:<36} # for functions and operators in expressions"
    return FRAME.format(
        dsn=_dsn_line(dsn), search_path=path, embedder=PROVIDERS[provider], vectorizers="\n".join(vectorizers)
    )


def _table(name: str) -> TableName:
    try:
        return TableName.parse(name)
    except ValueError as error:
        raise UsageInvalid(f"{name!r} {error}", hint="write schema.table") from None


def _chosen(proposals: Sequence[Proposal]) -> tuple[Proposal, ...]:
    """Ask which of the tables to embed."""
    known = {str(proposal.table): proposal for proposal in proposals}
    for name, proposal in known.items():
        say(f"{name}: {lengths_of(proposal.columns)}", err=True)
    while known:
        words = typer.prompt("tables to embed", default=", ".join(known), err=True).split(",")
        chosen = [word.strip() for word in words]
        if not (unknown := [name for name in chosen if name not in known]):
            return tuple(known[name] for name in dict.fromkeys(chosen))
        say(f"not among them: {', '.join(unknown)}", err=True)
    return ()


def _asked(proposal: Proposal) -> Proposal:
    """Ask which of a table's columns to embed."""
    if len(proposal.all_columns) < 2:  # noqa: PLR2004 -- no choice
        return proposal
    known = {column.name: column for column in proposal.all_columns}
    say(f"{proposal.table} has text in {', '.join(known)}", err=True)
    default = ", ".join(column.name for column in proposal.columns)
    while True:
        words = typer.prompt("columns to embed", default=default, err=True).split(",")
        chosen = [word.strip() for word in words]
        if not (unknown := [name for name in chosen if name not in known]):
            return replace(proposal, columns=tuple(known[name] for name in chosen))
        say(f"not among them: {', '.join(unknown)}", err=True)


def _expression(columns: Sequence[TextColumn]) -> str:
    """Compose SQL that joins the columns with blank lines, leaving out NULLs."""
    names = [column.sql for column in columns] or ["contents"]
    if len(names) == 1:
        return names[0]
    if all(column.not_null for column in columns):
        return r" || E'\n\n' || ".join(names)
    return rf"concat_ws(E'\n\n', {', '.join(names)})"


def _why(proposal: Proposal) -> str:
    """Return a comment that says why these columns are proposed, if that is known."""
    if not any(column.length is not None for column in proposal.all_columns):
        return ""
    others = [column for column in proposal.all_columns if column not in proposal.columns]
    left = f"; left out: {lengths_of(others)}" if others else ""
    return _remark(f"{proposal.table} has text in {lengths_of(proposal.columns)}{left}.")


def _remark(text: str) -> str:
    """Return a comment line, with unprintable characters replaced."""
    return f"# {''.join(char if char.isprintable() else '?' for char in text)}\n"


def _names(tables: Sequence[TableName]) -> list[str]:
    """Name each vectorizer after its table, adding schema or number if necessary.

    Names that are the same in a variable (a-b and A_b) count as equal.
    """
    taken: dict[str, str] = {}
    for table in tables:
        wanted = [_identifier(table.name), _identifier(f"{table.schema}_{table.name}")]
        name = _free(wanted, lambda name: spell_variable(name) in taken)
        taken[spell_variable(name)] = name
    return list(taken.values())


def _targets(tables: Sequence[TableName]) -> list[TableName]:
    """Name each target after its table, adding a number if the name is taken."""
    targets: list[TableName] = []
    for schema, table in tables:
        taken = {name for other, name in [*tables, *targets] if other == schema}
        targets.append(TableName(schema, _free([_cut(table, "_embedding")], taken.__contains__)))
    return targets


def _free(wanted: Sequence[str], is_taken: Callable[[str], bool]) -> str:
    """Return the first name that is not taken, or else the first one with a number."""
    numbered = (_cut(wanted[0], f"_{number}") for number in count(2))
    return next(name for name in chain(wanted, numbered) if not is_taken(name))


def _identifier(name: str) -> str:
    """Spell a name with ASCII letters, digits and underscores."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return _cut(plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}", "")


def _cut(name: str, suffix: str) -> str:
    """Append a suffix within the length that PostgreSQL allows."""
    return name.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix


def _dsn_line(dsn: str | None) -> str:
    given = conninfo_to_dict(dsn) if dsn else {}
    if dsn and not any(given.get(name) for name in SECRETS):
        return f"dsn = {_quoted(dsn)}"
    remark = (
        "  # has a password: set WALVEC_SOURCE__DSN" if dsn else "  # or WALVEC_SOURCE__DSN, or PG* variables"
    )
    return f'# dsn = "postgresql://localhost/app"{remark}'


def _quoted(text: str) -> str:
    """Write a TOML string: JSON's escapes are a subset of TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
