"""`walvec dead-letter …`: the command line. See walvec.commands.dead_letter."""

from typing import Annotated

import typer

from walvec.cli.completion import vectorizer_names
from walvec.cli.options import ConfigPath, Json, Yes, done, examples, settings

app = typer.Typer(
    help="Rows that could not be embedded: see why, retry them, or discard them.",
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
    typer.Option("--key", "-k", metavar="VALUE", help="The key of one row; repeat it for each key column."),
]
All = Annotated[bool, typer.Option("--all", help="Every vectorizer.")]


@app.command("list", epilog=examples("walvec dead-letter list", "walvec dead-letter list blog --json"))
def show(
    *,
    name: Name = None,
    key: KeyParts = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="COUNT", help="The most rows to list.")
    ] = 100,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first: key, stage, attempts and cause."""
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
    """Read the rows again as they are now and embed them, once the cause is fixed.

    A running walvec does this within seconds; otherwise the next `walvec run` does.
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
    """Discard dead letters. Their rows stay without embeddings until they change."""
    from walvec.commands import dead_letter

    done(dead_letter.discard(settings(config), name, key or (), every=every, sure=yes))
