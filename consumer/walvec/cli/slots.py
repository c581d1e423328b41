"""`walvec slots …`: the command line. The work is in walvec.commands.slots."""

from typing import Annotated

import typer

from walvec.cli.options import ConfigPath, Json, Timeout, Yes, done, examples, settings

app = typer.Typer(
    help="List, create, drop, copy and advance replication slots of the source.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SlotName = Annotated[str, typer.Argument(metavar="SLOT", help="The slot's name.")]


@app.command("list", epilog=examples("walvec slots list", "walvec slots list --json"))
def show(*, config: ConfigPath = None, as_json: Json = False) -> None:
    """List the server's slots, their readers and the WAL that they retain."""
    from walvec.commands import slots

    done(slots.show(settings(config), as_json=as_json))


@app.command("create", epilog=examples("walvec slots create", "walvec slots create spare --timeout 600"))
def create(
    *,
    slot: Annotated[str | None, typer.Argument(metavar="SLOT", help="Its name [the configured one].")] = None,
    timeout: Timeout = 60.0,
    config: ConfigPath = None,
) -> None:
    """Create a slot, once every write transaction open now has ended."""
    from walvec.commands import slots

    done(slots.create(settings(config), slot, timeout))


@app.command("drop", epilog=examples("walvec slots drop spare", "walvec slots drop spare --yes"))
def drop(*, slot: SlotName, yes: Yes = False, config: ConfigPath = None) -> None:
    """Drop an inactive slot. Changes that only it retains are lost to its reader."""
    from walvec.commands import slots

    done(slots.drop(settings(config), slot, sure=yes))


@app.command("copy", epilog=examples("walvec slots copy walvec walvec_before_upgrade"))
def copy(
    *,
    slot: SlotName,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The copy's name.")],
    config: ConfigPath = None,
) -> None:
    """Copy a slot. The copy begins at the slot's present position."""
    from walvec.commands import slots

    done(slots.copy(settings(config), slot, new))


@app.command("advance", epilog=examples("walvec slots advance walvec 16/B374D848"))
def advance(
    *,
    slot: SlotName,
    lsn: Annotated[
        str, typer.Argument(metavar="LSN", help="The position to continue from, such as 16/B374D848.")
    ],
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Move a slot past changes that its reader will never see. This is final."""
    from walvec.commands import slots

    done(slots.advance(settings(config), slot, lsn, sure=yes))
