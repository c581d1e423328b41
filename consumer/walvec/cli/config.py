"""`walvec config …`: the words of its command. The work is in walvec.commands.config_show."""

import typer

from walvec.cli.options import ConfigPath, Json, examples, settings

app = typer.Typer(
    help="Look at the settings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def config() -> None:
    """Look at the settings."""


@app.command(epilog=examples("walvec config show", "walvec config show --json"))
def show(*, config: ConfigPath = None, as_json: Json = False) -> None:
    """Show every setting as it is in force, and whether a line of the file, a variable or a default set it.

    What is printed is a walvec.toml itself. Passwords are masked, API keys are not among the settings.
    """
    from walvec.commands.config_show import show

    show(settings(config), config, as_json=as_json)
