"""`walvec dead-letter …`: the words of its three commands. The work is in walvec.commands.dead_letter."""

from typing import Annotated

import typer

from walvec.cli.completion import vectorizer_names
from walvec.cli.options import ConfigPath, Json, Yes, done, examples, settings

app = typer.Typer(
    help="Look after the rows that could not be embedded: see why, try them again, or forget them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="The vectorizer.", show_default=False, autocompletion=vectorizer_names
    ),
]
KeyParts = Annotated[
    list[str] | None,
    typer.Option("--key", "-k", metavar="VALUE", help="One row's key; once for each of its columns."),
]
All = Annotated[bool, typer.Option("--all", help="Those of every vectorizer.")]


@app.command("list", epilog=examples("walvec dead-letter list", "walvec dead-letter list blog --json"))
def show(
    *,
    name: Name = None,
    key: KeyParts = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="COUNT", help="At most so many.")] = 100,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """List parked rows, the newest first: their keys, where they failed, how often, and why."""
    from walvec.commands import dead_letter

    done(dead_letter.show(settings(config), name, key or (), limit=limit, as_json=as_json))


@app.command(
    epilog=examples(
        "walvec dead-letter retry blog",
        "walvec dead-letter retry blog --key 17",
        "walvec dead-letter retry --all",
    )
)
def retry(*, name: Name = None, key: KeyParts = None, every: All = False, config: ConfigPath = None) -> None:
    """Read parked rows again, as they are now, and embed them: once the cause is mended.

    A running walvec does so within seconds, otherwise the next `walvec run` does.
    """
    from walvec.commands import dead_letter

    done(dead_letter.retry(settings(config), name, key or (), every=every))


@app.command(
    epilog=examples("walvec dead-letter discard blog --key 17", "walvec dead-letter discard blog --yes")
)
def discard(
    *,
    name: Name = None,
    key: KeyParts = None,
    every: All = False,
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Forget parked rows. Each stays without an embedding until it changes again."""
    from walvec.commands import dead_letter

    done(dead_letter.discard(settings(config), name, key or (), every=every, sure=yes))
