"""`walvec config …`: the command line. The work is in walvec.commands.config_show."""

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
    """Show every setting in force, and where it comes from.

    The output is itself a valid walvec.toml; a comment names the line, variable or default behind each
    setting. Passwords are masked, and API keys are never settings.
    """
    from walvec.commands.config_show import show

    show(settings(config), config, as_json=as_json)
