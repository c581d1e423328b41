"""The output plugins behind one interface: their options, and their decoders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from walvec_slots.changes import Event, StreamedTable
from walvec_slots.lsn import Lsn
from walvec_slots.pgoutput import PgoutputDecoder, pgoutput_options
from walvec_slots.wal2json import OPTIONAL, Wal2jsonDecoder, wal2json_options

# What [source] plugin may be; auto: an existing slot's own, and for a new one what fits.
PluginSetting = Literal["auto", "wal2json", "pgoutput"]


class Decoder(Protocol):
    """Reads the payloads of one stream, in their order.

    Another stream needs another decoder.
    """

    def decode(self, payload: bytes | memoryview, lsn: Lsn) -> Event | None:
        """Return the message; None for one that is not about a wanted table.

        `lsn` is the start of its frame. Raises MalformedMessage.
        """
        ...


@dataclass(frozen=True, slots=True)
class Plugin:
    """An output plugin."""

    name: str
    # The options of START_REPLICATION, by publication and tables.
    options: Callable[[str, Sequence[StreamedTable]], Mapping[str, str]]
    # Options to try, and to leave out where the plugin does not know them.
    optional: Mapping[str, str]
    decoder: Callable[[Sequence[StreamedTable]], Decoder]
    # Whether the server applies the publication, as its catalog was when the WAL was written.
    applies_publication: bool
    # Whether text comes in the client's encoding, whatever the database's is.
    converts_encoding: bool


WAL2JSON: Final = Plugin(
    name="wal2json",
    options=lambda _, tables: wal2json_options((table.schema, table.name) for table in tables),
    optional=OPTIONAL,
    decoder=Wal2jsonDecoder,
    applies_publication=False,
    converts_encoding=False,
)

PGOUTPUT: Final = Plugin(
    name="pgoutput",
    options=lambda publication, _: pgoutput_options(publication),
    optional={},
    decoder=PgoutputDecoder,
    applies_publication=True,
    converts_encoding=True,
)

PLUGINS: Final[Mapping[str, Plugin]] = {plugin.name: plugin for plugin in (WAL2JSON, PGOUTPUT)}
