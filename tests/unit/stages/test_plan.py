from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec.database.keys import Key
from walvec.stages.actions import DELETE, REFETCH, Action, Upsert
from walvec.stages.plan import LARGE_IMAGE, Unidentified, plan_change, plan_refetch
from walvec.vectorizer.row_shape import RowShape
from walvec_slots.changes import Change, Text
from walvec_slots.lsn import Lsn

SHAPE = RowShape(
    key=("id",),
    used=("body",),
    published=frozenset({"insert", "update", "delete"}),
    by_image=True,
)
Image = dict[str, Text]


def insert(columns: Image) -> Change:
    """An insert of this row."""
    return Change("insert", Lsn(1), "public", "blog", columns, {})


def update(columns: Image, identity: Image) -> Change:
    """An update to `columns` of the row that `identity` tells."""
    return Change("update", Lsn(1), "public", "blog", columns, identity)


def delete(identity: Image) -> Change:
    """A delete of the row that `identity` tells."""
    return Change("delete", Lsn(1), "public", "blog", {}, identity)


def planned(change: Change, shape: RowShape = SHAPE) -> list[tuple[Key, object]]:
    """The actions, an Upsert as the JSON of its image."""
    return [(key, _shown(action)) for key, action in plan_change(change, shape)]


def _shown(action: Action) -> object:
    return orjson.dumps(action.image).decode() if isinstance(action, Upsert) else action


class TestKinds:
    """Each kind of change asks for its own actions."""

    def test_insert(self) -> None:
        """The image holds the columns that are used, and no others."""
        assert planned(insert({"id": "1", "body": "x", "views": "3"})) == [(("1",), '{"body":"x"}')]

    def test_update(self) -> None:
        """An update that leaves the key alone is one action."""
        assert planned(update({"id": "1", "body": "x"}, {"id": "1"})) == [(("1",), '{"body":"x"}')]

    def test_update_of_the_key(self) -> None:
        """The old row goes first."""
        change = update({"id": "2", "body": "x"}, {"id": "1"})
        assert planned(change) == [(("1",), DELETE), (("2",), '{"body":"x"}')]

    def test_update_without_identity(self) -> None:
        """The plugin omits the identity at times: then the key is that of the columns."""
        assert planned(update({"id": "1", "body": "x"}, {})) == [(("1",), '{"body":"x"}')]

    def test_delete(self) -> None:
        """A delete names the row by its identity, which may hold more than the key."""
        assert planned(delete({"id": "1", "body": "x"})) == [(("1",), DELETE)]

    @pytest.mark.parametrize(
        "change", [insert({"id": "1"}), update({"id": "1"}, {"id": "2"}), delete({"id": "1"})]
    )
    def test_unpublished(self, change: Change) -> None:
        """What the publication does not publish asks for nothing."""
        assert planned(change, replace(SHAPE, published=frozenset())) == []


class TestKeys:
    """The key's text is that of PostgreSQL's output functions."""

    @pytest.mark.parametrize("text", ["7", "t", "a b", "", "1.50", r"\x00ff"])
    def test_text(self, text: str) -> None:
        """The key is as it was sent."""
        assert planned(delete({"id": text})) == [((text,), DELETE)]

    def test_several_columns(self) -> None:
        """A key has its parts in its own order, whatever the order they come in."""
        shape = replace(SHAPE, key=("b", "a"))
        assert planned(delete({"a": "1", "b": "2"}), shape) == [(("2", "1"), DELETE)]

    def test_key_that_is_toasted(self) -> None:
        """An unchanged part of the key that columns lack is in the identity."""
        shape = replace(SHAPE, key=("id", "slug"))
        change = update({"id": "2", "body": "x"}, {"id": "1", "slug": "s"})
        assert planned(change, shape) == [(("1", "s"), DELETE), (("2", "s"), '{"body":"x"}')]

    @pytest.mark.parametrize("change", [delete({}), insert({"body": "x"}), delete({"id": None})])
    def test_missing(self, change: Change) -> None:
        """A change without a key does not tell which row it is about."""
        with pytest.raises(Unidentified):
            planned(change)

    @pytest.mark.parametrize(
        ("change", "keys"),
        [
            (update({"id": "1", "body": "x"}, {}), ["NaN", "Infinity", "1"]),
            (update({"body": "x"}, {"id": "1"}), ["NaN", "Infinity", "1"]),
            (insert({"body": "x"}), ["NaN", "Infinity"]),
            (delete({}), ["NaN", "Infinity"]),
        ],
    )
    def test_unclear(self, change: Change, keys: list[str]) -> None:
        """Every key that a plugin's one word for several values may stand for is looked up."""
        unclear = change._replace(unclear={"id": ("NaN", "Infinity")})
        assert planned(unclear) == [((key,), REFETCH) for key in keys]
        assert plan_refetch(unclear, SHAPE) == [((key,), REFETCH) for key in keys]

    def test_unclear_column_outside_the_key(self) -> None:
        """An unclear column outside the key counts as a missing one."""
        change = insert({"id": "1"})._replace(unclear={"body": ("NaN",)})
        assert planned(change) == [(("1",), REFETCH)]

    @pytest.mark.parametrize("change", [insert({"body": "x"}), delete({}), update({"body": "x"}, {})])
    def test_missing_before_the_horizon(self, change: Change) -> None:
        """An older change without a key does not tell the row either."""
        with pytest.raises(Unidentified):
            plan_refetch(change, SHAPE)


class TestImages:
    """An image is what PostgreSQL reads back exactly; without one the row is read."""

    def test_unchanged_toast(self) -> None:
        """A used column that is in neither image has the row read."""
        assert planned(update({"id": "1"}, {"id": "1"})) == [(("1",), REFETCH)]

    def test_unchanged_toast_under_full(self) -> None:
        """The old value, which did not change, is in the identity."""
        assert planned(update({"id": "1"}, {"id": "1", "body": "old"})) == [(("1",), '{"body":"old"}')]

    def test_unused_column_that_is_missing(self) -> None:
        """A missing column that no expression uses does not matter."""
        assert planned(update({"id": "1", "body": "x"}, {"id": "1"})) == [(("1",), '{"body":"x"}')]

    def test_null(self) -> None:
        """NULL is a value like any other."""
        assert planned(insert({"id": "1", "body": None})) == [(("1",), '{"body":null}')]

    def test_expressions_that_images_do_not_serve(self) -> None:
        """Expressions that take the row as a whole have it read."""
        change = insert({"id": "1", "body": "x"})
        assert planned(change, replace(SHAPE, by_image=False)) == [(("1",), REFETCH)]

    def test_large(self) -> None:
        """An image past a limit is not held in memory."""
        change = insert({"id": "1", "body": "x" * (LARGE_IMAGE + 1)})
        assert planned(change) == [(("1",), REFETCH)]

    @given(st.none() | st.text())
    def test_value_survives(self, value: Text) -> None:
        """What is in the image is what was in the stream."""
        [(_, shown)] = planned(insert({"id": "1", "body": value}))
        assert orjson.loads(str(shown)) == {"body": value}
