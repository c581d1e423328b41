import re
import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walvec.commands.init import write as init
from walvec.commands.init.proposal import Proposal, TextColumn
from walvec.commands.init.write import render_config
from walvec.config.load import Config, TableName
from walvec.config.masking import SECRETS
from walvec.config.sections import Vectorizer

BLOG = TableName("public", "blog")
TITLE, CONTENTS = (
    TextColumn("title", "title", not_null=True),
    TextColumn("contents", "contents", not_null=True),
)
NOTE = TextColumn("Note", '"Note"', not_null=False)


def vectorizers(text: str) -> tuple[Vectorizer, ...]:
    """Read the file's text back."""
    return Config(**tomllib.loads(text)).vectorizers


def written(*columns: TextColumn, dsn: str | None = None, provider: str = "mistral") -> str:
    """Write the file for one table."""
    return render_config([Proposal(BLOG, columns, columns)], dsn=dsn, provider=provider)


@pytest.mark.parametrize("provider", ["mistral", "openai", "local", "hashing", "python"])
def test_the_file_is_valid_for_every_provider(provider: str) -> None:
    """What init writes, load takes."""
    config = Config(**tomllib.loads(written(TITLE, provider=provider)))
    assert config.embedder.provider == provider


@pytest.mark.parametrize("provider", ["mistral", "openai", "local", "hashing"])
def test_the_remarks_are_the_defaults(provider: str) -> None:
    """With every remark made a setting, nothing changes: they name keys that exist, and their defaults."""
    text = written(TITLE, provider=provider)
    spoken = re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    silent = Config(**tomllib.loads(text)).model_dump()
    said = Config(**_without(tomllib.loads(spoken), "dsn", "where", "logical_decoding_work_mem")).model_dump()
    silent["embedder"]["base_url"] = said["embedder"]["base_url"]  # absent means the provider's own
    assert said == silent


def _without(document: Any, *keys: str) -> Any:
    """Take out the keys whose remark is an example rather than a default."""
    if isinstance(document, dict):
        return {key: _without(value, *keys) for key, value in document.items() if key not in keys}
    return [_without(item, *keys) for item in document] if isinstance(document, list) else document


@pytest.mark.parametrize(
    ("columns", "expression"),
    [
        ([TITLE], "title"),
        ([TITLE, CONTENTS], r"title || E'\n\n' || contents"),
        ([TITLE, NOTE], r"""concat_ws(E'\n\n', title, "Note")"""),
    ],
)
def test_columns_become_an_expression(columns: list[TextColumn], expression: str) -> None:
    """NULL in one column does not make the whole text NULL."""
    assert vectorizers(written(*columns))[0].text == expression


def test_the_operator_chooses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The proposal is the default; a name that is not there is asked for again."""
    answers = iter(["contents, mood", "contents"])
    asked = []

    def prompt(words: str, **options: object) -> str:
        asked.append((words, options["default"]))
        return next(answers)

    monkeypatch.setattr("typer.prompt", prompt)
    chosen = init._asked(Proposal(BLOG, (TITLE,), (TITLE, CONTENTS)))
    assert chosen.columns == (CONTENTS,)
    assert asked == [("columns to embed", "title")] * 2
    assert "not among them: mood" in capsys.readouterr().err


def test_the_operator_chooses_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that are proposed by default; a name that is not among them is asked for again."""
    answers = iter(["nobody", "public.page"])
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
    page = TableName("public", "page")
    (chosen,) = init._chosen([Proposal(BLOG, (TITLE,), (TITLE,)), Proposal(page, (TITLE,), (TITLE,))])
    assert chosen.table == page
    assert "not among them: nobody" in capsys.readouterr().err


def test_there_is_nothing_to_choose_from() -> None:
    """Nobody is asked for a table then."""
    assert init._chosen([]) == ()


def test_a_remark_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths of what is taken, and of what is not."""
    long, short = replace(CONTENTS, length=834), replace(TITLE, name="mood", length=5)
    text = render_config([Proposal(BLOG, (long,), (long, short))], dsn=None, provider="hashing")
    words = "# public.blog has text in contents 834 bytes on average; left out: mood 5 bytes on average.\n"
    assert words in text


def test_what_is_left_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a remark of one line, whatever is in a table's name."""
    text = render_config([], dsn=None, provider="hashing", left_out=["public.a\nb: no key"])
    assert "# Left out:\n#   public.a?b: no key\n" in text
    assert vectorizers(text) == ()


@pytest.mark.parametrize(
    ("column", "is_telling"),
    [
        (TITLE, True),
        (NOTE, True),
        (replace(NOTE, name="x", length=100), True),
        (replace(NOTE, name="x"), False),
    ],
)
def test_a_name_or_a_length_tells(column: TextColumn, *, is_telling: bool) -> None:
    """A long text is worth embedding whatever its column is called."""
    assert column.is_telling is is_telling


def test_without_a_look_the_place_is_marked() -> None:
    """Nobody takes the placeholder for a proposal."""
    assert "<- write your columns here" in written()


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_written(name: str) -> None:
    """Not the key's password either: the variable is named instead."""
    text = written(TITLE, dsn=f"host=h {name}=hunter2")
    assert "hunter2" not in text


def test_a_password_is_not_written() -> None:
    """The file may be checked in."""
    text = written(TITLE, dsn="postgresql://u:hunter2@h/db")
    assert "hunter2" not in text
    assert "WALVEC_SOURCE__DSN" in text


def test_a_dsn_without_one_is() -> None:
    """It spares the next question."""
    assert Config(**tomllib.loads(written(TITLE, dsn="host=h"))).source_dsn == "host=h"


def test_no_table() -> None:
    """The frame alone is valid, too."""
    assert vectorizers(render_config([], dsn=None, provider="mistral")) == ()


@given(
    st.lists(
        st.builds(
            TableName,
            st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=15),
            st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=15),
        ),
        unique=True,
        max_size=3,
    )
)
def test_any_table_can_be_written(tables: list[TableName]) -> None:
    """Names come back as they went in, whatever their characters."""
    text = render_config([Proposal(table) for table in tables], dsn=None, provider="hashing")
    document = tomllib.loads(text)
    assert [TableName.parse(each["table"]) for each in document.get("vectorizer", [])] == tables


def test_proposed_names_are_accepted_together() -> None:
    """Tables whose names differ in odd characters, case or schema get a name and a target each."""
    names = ["a-b", "a_b", "a.b", "A b", "a_b_embedding", "a_b_embedding_2", "x" * 62, "x" * 63, "x" * 61]
    tables = [TableName(schema, name) for schema in ("public", "other-one") for name in names]
    found = vectorizers(render_config([Proposal(table) for table in tables], dsn=None, provider="hashing"))
    assert [each.table for each in found] == tables
