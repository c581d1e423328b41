"""What `text` and `where` call, and whether they are functions of the row alone.

What decides a row's text must be a function of that row: no event reports a change by the clock, a session or
another table. PostgreSQL itself is asked, since it knows what a name means. Nothing is created for that.
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from walvec.config.load import Vectorizer
from walvec.errors import ConfigInvalid
from walvec.vectorizer.deparsed import Reading, joined_columns, read_printed
from walvec.vectorizer.fitness import CatalogEntry, find_unfitness, sight_of, sight_of_check
from walvec.vectorizer.literals import find_literals, point_out, without_clock
from walvec.vectorizer.readable import write_grants
from walvec.vectorizer.unfit import Unfit, aggregates, clock_literal, nullable_join, several_rows
from walvec_slots.errors import PreconditionFailed, WalvecError
from walvec_slots.queries import load_sql
from walvec_slots.settle import Connection

# A column that the statements add: an aggregate would have to group by it.
_FENCE = "walvec_order"

_QUERIES = load_sql("expressions.sql")

_SYSTEM_COLUMN = re.compile(r'column "?(?:.*\.)?(ctid|tableoid|xmin|xmax|cmin|cmax)"? does not exist')
_GIVES_ROWS = ("set-returning function", "must not return a set")


async def called_functions(connection: Connection, vectorizer: Vectorizer) -> tuple[tuple[int, int], ...]:
    """Return oid and version of every function that text and where may reach.

    Those that came with PostgreSQL are left out. The list is in the order of oids, and may hold too many
    rather than too few. It differs once a function is replaced, dropped or added.
    """
    text = f"{vectorizer.text}\n{vectorizer.where or ''}"
    cursor = await connection.execute(_QUERIES["called_functions"], {"text": text})
    return tuple([(oid, version) for oid, version in await cursor.fetchall()])


async def require_fit(connection: Connection, vectorizer: Vectorizer) -> None:
    """Prove that text and where are valid, and functions of the row.

    Raises ConfigInvalid where they are not; it names the key and points into what the user wrote. Raises
    PreconditionFailed where walvec's role may not use what they name.
    """
    for expression in _expressions_of(vectorizer):
        await _examine(connection, expression)


async def find_doubts(connection: Connection, vectorizer: Vectorizer) -> list[Unfit]:
    """List what text and where are allowed to do and that could still surprise.

    Raises as `require_fit` does.
    """
    found: list[Unfit] = []
    values: dict[str, str] = {}
    for expression in _expressions_of(vectorizer):
        value, bearable = await _examine(connection, expression)
        values[expression.key] = value
        found += [Unfit(f"{expression.spot}: {doubt.what}", doubt.hint, bearable=True) for doubt in bearable]
    cursor = await connection.execute(_QUERIES["nullable_columns"], vectorizer.table._asdict())
    nullable = {name for (name,) in await cursor.fetchall()}
    columns = [
        column.name
        for column in joined_columns(values["text"], vectorizer.table.name)
        if column.name in nullable and f"{column.printed} IS NOT NULL" not in values.get("where", "")
    ]
    if columns:
        found.append(nullable_join(vectorizer.spot("text"), columns))
    return found


@dataclass(frozen=True, slots=True)
class _Expression:
    """Text or where, and where it was written."""

    vectorizer: Vectorizer
    key: Literal["text", "where"]
    written: str

    @property
    def spot(self) -> str:
        """The key, and the place where it was set."""
        return self.vectorizer.spot(self.key)

    def statement(self) -> tuple[str, int]:
        """Compose the statement that has it planned, and tell where in that it begins."""
        table = self.vectorizer.table
        template = _QUERIES[f"plan_of_{self.key}"]
        composed = sql.SQL(template).format(
            expression=sql.SQL(self.written),
            table=sql.Identifier(*table),
            alias=sql.Identifier(table.name),
        )
        return composed.as_string(), len(template.partition("{expression}")[0])


def _expressions_of(vectorizer: Vectorizer) -> Iterator[_Expression]:
    # The condition comes first: it keeps out rows for which the text need not make sense.
    if vectorizer.where is not None:
        yield _Expression(vectorizer, "where", vectorizer.where)
    yield _Expression(vectorizer, "text", vectorizer.text)


async def _examine(connection: Connection, expression: _Expression) -> tuple[str, list[Unfit]]:
    """Return the expression as PostgreSQL prints it, and what its author should judge.

    Raises ConfigInvalid for the first finding that is not bearable.
    """
    table = str(expression.vectorizer.table)
    sight = sight_of(await _plan_expression(connection, expression))
    called = await _look_up(connection, sight.reading)
    findings = list(find_unfitness(sight, called, table, expression.written))
    findings += [finding async for finding in _judge_checks(connection, called, table)]
    findings += [finding async for finding in _find_clock_literals(connection, expression)]
    for finding in findings:
        if not finding.bearable:
            raise ConfigInvalid(f"{expression.spot}: {finding.what}", hint=finding.hint)
    return sight.value, findings


async def _plan_expression(connection: Connection, expression: _Expression) -> Mapping[str, Any]:
    """Have an expression parsed and planned."""
    statement, start = expression.statement()
    try:
        async with connection.transaction():
            cursor = await connection.execute(statement)
    except psycopg.OperationalError:
        raise
    except psycopg.errors.InsufficientPrivilege as error:
        message = error.diag.message_primary or "is refused"
        hint = await write_grants(connection, message)
        raise PreconditionFailed(f"{expression.spot}: {message}", hint=hint) from error
    except psycopg.Error as error:
        raise _explain_refusal(error, expression, start) from error
    ((plans,),) = await cursor.fetchall()
    plan: Mapping[str, Any] = plans[0]["Plan"]
    if _FENCE not in plan["Output"][1]:
        raise ConfigInvalid(
            f"{expression.spot}: is more than one expression", hint="Join them: concat_ws(' ', title, body)."
        )
    return plan


def _explain_refusal(error: psycopg.Error, expression: _Expression, start: int) -> WalvecError:
    """Say in terms of the settings what PostgreSQL says of the whole statement.

    The expression begins at the character `start` of it, from 0.
    """
    said = error.diag
    vectorizer, message = expression.vectorizer, said.message_primary or "is refused"
    message = message.removeprefix("argument of CASE/WHEN ")
    position = int(said.statement_position or 0) - 1 - start
    table = str(vectorizer.table)
    if isinstance(error, psycopg.errors.GroupingError) and _FENCE in message:
        return ConfigInvalid(f"{expression.spot}: {(found := aggregates(table)).what}", hint=found.hint)
    if any(words in message for words in _GIVES_ROWS):
        return ConfigInvalid(f"{expression.spot}: {(found := several_rows(table)).what}", hint=found.hint)
    if not isinstance(error, psycopg.errors.SyntaxError) and position > len(expression.written):
        return PreconditionFailed(f'Vectorizer "{vectorizer.name}": {message}')
    return ConfigInvalid(
        f"{expression.spot}: {point_out(message, expression.written, position)}",
        hint=_way_out(error, message) or f"{expression.key} is SQL over a row of {table}.",
    )


def _way_out(error: psycopg.Error, message: str) -> str | None:
    """Say what to write instead, where that is known."""
    if system := _SYSTEM_COLUMN.match(message):
        return f"Leave out the system column {system[1]}: only the row's values are followed."
    if isinstance(error, psycopg.errors.UndefinedFunction | psycopg.errors.UndefinedObject):
        return 'Name the schema, as in public.f(…), or add it: [source] search_path = "pg_catalog, public"'
    return error.diag.message_hint


async def _look_up(connection: Connection, reading: Reading) -> list[CatalogEntry]:
    """Ask the catalog about the names in an expression."""
    calls, operators = sorted(reading.calls), sorted(reading.operators)
    names = {
        "schemas": [call.schema for call in calls],
        "names": [call.name for call in calls],
        "arguments": [call.arguments for call in calls],
        "operator_schemas": [schema for schema, _ in operators],
        "symbols": [symbol for _, symbol in operators],
        "types": sorted(reading.types),
    }
    async with connection.cursor(row_factory=class_row(CatalogEntry)) as cursor:
        await cursor.execute(_QUERIES["what_is_called"], names)
        return await cursor.fetchall()


async def _judge_checks(
    connection: Connection, called: Sequence[CatalogEntry], table: str
) -> AsyncIterator[Unfit]:
    """Judge the checks of domains that something is cast to, nested ones included."""
    seen: set[str] = set()
    waiting = list(called)
    while waiting:
        check = waiting.pop()
        if check.kind != "check" or check.name in seen:
            continue
        seen.add(check.name)
        reading = read_printed([check.name])
        within = await _look_up(connection, reading)
        for finding in find_unfitness(sight_of_check(reading), within, table, check.name):
            yield finding
        waiting += within


async def _find_clock_literals(connection: Connection, expression: _Expression) -> AsyncIterator[Unfit]:
    """Find constants such as 'now' and 'today' that are read as dates.

    What a constant is read as shows once a word takes its place that no date has.
    """
    spans = list(find_literals(expression.written))
    if not spans:
        return
    constants = [sql.SQL(expression.written[slice(*span)]) for span in spans]
    statement = sql.SQL(_QUERIES["values_of_literals"]).format(literals=sql.SQL(", ").join(constants))
    try:
        async with connection.transaction():
            cursor = await connection.execute(statement.as_string())
    except psycopg.ProgrammingError:
        # What looked like a constant is something else.
        return
    ((values,),) = await cursor.fetchall()
    for (begin, end), value in zip(spans, values, strict=True):
        if (harmless := without_clock(value)) is None:
            continue
        written = expression.written
        other = replace(
            expression, written=written[:begin] + sql.Literal(harmless).as_string() + written[end:]
        )
        try:
            async with connection.transaction(force_rollback=True):
                await connection.execute(other.statement()[0])
        except (psycopg.errors.InvalidDatetimeFormat, psycopg.errors.DatetimeFieldOverflow):
            yield clock_literal(value, str(expression.vectorizer.table))
        except psycopg.DataError:
            # It is read as something else: a value of an enum, for example.
            pass
