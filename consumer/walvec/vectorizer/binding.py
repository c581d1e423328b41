"""A vectorizer bound to its table: what the table is, and what is used of it.

A `Binding` is worked out once, before the stream starts (`bind`); the stages after it go by what it says. It
is a value: nothing here asks the database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from walvec.config.load import Vectorizer
from walvec.vectorizer.row_shape import RowShape
from walvec_slots.changes import StreamedColumn, StreamedTable, Text
from walvec_slots.publication import Published
from walvec_slots.relation import Column, Relation


@dataclass(frozen=True, slots=True)
class Binding:
    """A vectorizer and the table it is bound to.

    `used` names the columns that the expressions read. `functions` are the oid and version of each function
    they may call that did not come with PostgreSQL. `search_path` is where their names are looked up.
    `by_image`: they can be evaluated on what the stream has of a row.
    """

    vectorizer: Vectorizer
    relation: Relation
    published: Published
    used: tuple[str, ...]
    functions: tuple[tuple[int, int], ...] = ()
    search_path: str = ""
    by_image: bool = False

    @property
    def name(self) -> str:
        """The vectorizer's name, which is its lane's too."""
        return self.vectorizer.name

    @property
    def key(self) -> tuple[Column, ...]:
        """The columns that identify a row, in the key's order."""
        columns = {column.name: column for column in self.relation.columns}
        return tuple(columns[name] for name in self.relation.key)

    @property
    def tables(self) -> tuple[tuple[str, str], ...]:
        """The tables that the stream names: the table, or its published partitions."""
        return tuple((leaf.schema, leaf.name) for leaf in self.published.leaves)

    def streamed(self) -> list[StreamedTable]:
        """Return the tables to decode, each with the columns of the key and those used."""
        wanted = {*self.used, *self.relation.key}
        columns = tuple(
            StreamedColumn(column.name, column.type_oid, column.type_name)
            for column in self.relation.columns
            if column.name in wanted
        )
        return [StreamedTable(leaf.oid, leaf.schema, leaf.name, columns) for leaf in self.published.leaves]

    @property
    def image_columns(self) -> tuple[Column, ...]:
        """The columns of a row image: those used, or one of the key where none is."""
        names = self.used or self.relation.key[:1]
        return tuple(column for column in self.relation.columns if column.name in names)

    def image_parameters(self, images: Sequence[Mapping[str, Text]]) -> dict[str, list[Text]]:
        """Return the parameters of `evaluate_images`: the texts of each column."""
        return {
            f"c{i}": [image.get(column.name) for image in images]
            for i, column in enumerate(self.image_columns)
        }

    def shape(self) -> RowShape:
        """Return what the planner needs to know."""
        return RowShape(
            key=self.relation.key,
            used=self.used,
            published=self.published.actions,
            by_image=self.by_image,
        )

    def identity(self) -> dict[str, object]:
        """Describe everything in the catalog that a row's text and events depend on.

        Where it differs, a new epoch begins and every row is compared. Things are identified by oid and
        attnum, and by when their catalog entry was written: so a column that was renamed while another took
        its name, or a table swapped for another and back, does not pass for the same. What TRUNCATE, VACUUM
        FULL and CLUSTER change is left out: the stream reports the first, and the others leave the rows as
        they are.
        """
        relation, listing = self.relation, self.published
        return {
            "table": [relation.oid, relation.version],
            "key": list(relation.key),
            "columns": [
                [
                    column.number,
                    column.name,
                    column.type_oid,
                    column.type_name,
                    column.collation_oid,
                    column.version,
                ]
                for column in relation.columns
                if column.name in self.used or column.name in relation.key
            ],
            "leaves": [[leaf.oid, leaf.schema, leaf.name, leaf.version] for leaf in listing.leaves],
            "publication": listing.version,
            "row_filter": listing.row_filter,
            "published": sorted(listing.actions),
            "functions": [list(function) for function in self.functions],
            "search_path": self.search_path,
        }
