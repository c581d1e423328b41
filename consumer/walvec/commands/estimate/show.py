"""`walvec check --estimate`: what embedding everything that is left takes."""

from contextlib import AsyncExitStack
from dataclasses import asdict

from walvec.commands.estimate.cost import Estimate, estimate, time_for
from walvec.commands.estimate.sampling import sample
from walvec.commands.output import print_json, print_table, say
from walvec.config.load import Config
from walvec.database.connect import connect_source, connect_target
from walvec.units import byte_size, duration
from walvec.vectorizer.preconditions import bind_before_setup

_BASES = {
    "counted": "counted",
    "statistics": "rows by the table's statistics",
    "sampled": "rows by a sample; ANALYZE the table for a better figure",
    "size": "rows by the table's size; ANALYZE the table for a better figure",
}


async def report_estimate(config: Config, *, latency: float, price: float | None, as_json: bool) -> None:
    """Print an estimate for each vectorizer, and the total.

    A request is assumed to take `latency` seconds; `price` is for a million tokens. Raises PreconditionFailed
    if a table cannot be read, ConfigInvalid if an expression is invalid.
    """
    estimates = await _estimates(config, latency, price)
    requests = sum(each.requests for each in estimates)
    seconds = round(time_for(requests, config.embedder, latency), 1)
    if as_json:
        total = {
            "rows": sum(each.left.rows for each in estimates),
            "chunks": sum(each.left.chunks for each in estimates),
            "characters": sum(each.left.characters for each in estimates),
            "tokens": sum(each.left.tokens for each in estimates),
            "requests": requests,
            "seconds": seconds,
            "vector_bytes": sum(each.vector_bytes for each in estimates),
            "cost": None if price is None else round(sum(each.cost or 0 for each in estimates), 4),
        }
        assumed = {"latency": latency, "price": price}
        print_json({"assumed": assumed, "left": total, "vectorizers": [asdict(each) for each in estimates]})
        return
    _show(estimates, seconds, price)
    _tell(config, requests, seconds, latency)


async def _estimates(config: Config, latency: float, price: float | None) -> list[Estimate]:
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(await connect_source(config, role="estimate"))
        target = await stack.enter_async_context(await connect_target(config, role="estimate"))
        found = []
        for vectorizer in config.vectorizers:
            binding = await bind_before_setup(source, vectorizer, config.source.publication)
            rows = await sample(source, target, binding, config.embedder)
            found.append(
                estimate(
                    vectorizer.name,
                    str(vectorizer.table),
                    rows,
                    config.embedder,
                    latency=latency,
                    price=price,
                )
            )
        return found


def _show(estimates: list[Estimate], seconds: float, price: float | None) -> None:
    columns = ["vectorizer", "rows", "left", "characters", "chunks", "tokens", "requests", "time", "vectors"]
    rows = [_row(each.vectorizer, [each], each.seconds, price) for each in estimates]
    if len(estimates) > 1:
        rows.append(_row("total", estimates, seconds, price))
    print_table(
        columns + ([] if price is None else ["cost"]), rows, empty="The settings have no [[vectorizer]]."
    )
    for each in estimates:
        read = "every row read" if each.basis == "counted" else f"{each.rows_read:,} rows read"
        failing = f"; text or where fails on {each.rows_failing:,} rows" if each.rows_failing else ""
        say(f"{each.vectorizer}: {read}, {_BASES[each.basis]}{failing}{_without_text(each)}")


def _row(name: str, estimates: list[Estimate], seconds: float, price: float | None) -> list[str]:
    """Return a line of the table: the sum of these estimates."""
    counted = all(estimate.basis == "counted" for estimate in estimates)
    counts = [
        sum(estimate.all.rows for estimate in estimates),
        sum(estimate.left.rows for estimate in estimates),
        sum(estimate.left.characters for estimate in estimates),
        sum(estimate.left.chunks for estimate in estimates),
        sum(estimate.left.tokens for estimate in estimates),
        sum(estimate.requests for estimate in estimates),
    ]
    return [
        name,
        *(_count(number, counted=counted) for number in counts),
        duration(seconds),
        byte_size(sum(estimate.vector_bytes for estimate in estimates)),
        *([] if price is None else [f"{sum(estimate.cost or 0 for estimate in estimates):,.2f}"]),
    ]


def _without_text(each: Estimate) -> str:
    if not each.rows_without_text:
        return ""
    number = _count(each.rows_without_text, counted=each.basis == "counted")
    return f"; {number} rows have no text: it is NULL or blank, or `where` excludes them"


def _count(number: int, *, counted: bool) -> str:
    return f"{number:,}" if counted else f"~{_about(number):,}"


def _about(number: int) -> int:
    """Round to three digits, which is all that a sample can tell."""
    digits = max(len(str(number)) - 3, 0)
    return round(number, -digits)


def _tell(config: Config, requests: int, seconds: float, latency: float) -> None:
    """Say what the figures are based on."""
    settings = config.embedder
    pace = f", {settings.requests_per_second:g} requests/s at most" if settings.requests_per_second else ""
    say(
        f"total: {requests:,} requests, {duration(seconds)} with {settings.concurrency} in flight{pace}, "
        f"assuming {latency:g} s for each (--latency)"
    )
    say("left to time count what is left to embed; tokens are estimated as bytes / 3, which is rather high")
