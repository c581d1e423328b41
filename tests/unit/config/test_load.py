import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from walvec.config.load import Config, TableName, load_config
from walvec.errors import ConfigInvalid

BLOG = """
[[vectorizer]]
name = "blog"
table = "public.blog"
text = "title"
target = "public.blog_embedding"
"""


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [name for name in os.environ if name.startswith("WALVEC_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def read(text: str, encoding: str = "utf-8") -> Config:
    """Load a file of this text."""
    Path("walvec.toml").write_text(text, encoding=encoding)
    return load_config()


def refused(text: str) -> str:
    """Return the message that refuses a file of this text."""
    with pytest.raises(ConfigInvalid) as caught:
        read(text)
    assert caught.value.exit_code == 2
    return str(caught.value)


def table(section: str, line: str) -> str:
    """Put one more line into a section of a file that is otherwise in order."""
    return BLOG + line if section == "vectorizer" else f"[{section}]\n{line}\n{BLOG}"


class TestDefaults:
    """What a key means that the file leaves out."""

    def test_a_file_with_one_vectorizer_is_complete(self) -> None:
        """The defaults are those that the contract lists."""
        config = read(BLOG)
        assert config.model_dump() == {
            "source": {
                "dsn": SecretStr(""),
                "search_path": "pg_catalog",
                "slot": "walvec",
                "publication": "walvec",
                "plugin": "auto",
                "failover": "auto",
                "logical_decoding_work_mem": None,
            },
            "target": {"dsn": None},
            "embedder": {
                "provider": "mistral",
                "model": "mistral-embed",
                "dimensions": 1024,
                "base_url": None,
                "api_key_env": "MISTRAL_API_KEY",
                "max_batch_inputs": 128,
                "max_batch_tokens": 16000,
                "concurrency": 8,
                "requests_per_second": 0.0,
                "timeout": 30.0,
            },
            "pipeline": {
                "writers": 4,
                "batch_rows": 1000,
                "batch_delay": 0.005,
                "max_buffer_bytes": 67108864,
                "parked_vectors": "remove",
                "max_dead_letters": 1000,
            },
            "http": {"listen": "127.0.0.1:9187", "max_lag": 0.0},
            "log": {"level": "info", "format": "auto"},
            "vectorizers": (
                {
                    "name": "blog",
                    "table": ("public", "blog"),
                    "text": "title",
                    "where": None,
                    "target": ("public", "blog_embedding"),
                    "chunk": {"size": 2000, "overlap": 200},
                    "index": "hnsw",
                    "metric": "cosine",
                },
            ),
        }

    @pytest.mark.parametrize(
        ("lines", "model", "dimensions"),
        [
            ('provider = "mistral"', "mistral-embed", 1024),
            ('provider = "local"', "wordllama-l2-supercat-256", 256),
            ('provider = "hashing"', "hashing", 384),
            ('provider = "hashing"\ndimensions = 64', "hashing", 64),
            ('model = "codestral-embed"\ndimensions = 3072', "codestral-embed", 3072),
            ('provider = "python"\nmodel = "mine:embed"\ndimensions = 3', "mine:embed", 3),
        ],
    )
    def test_the_provider_implies_model_and_dimensions(self, lines: str, model: str, dimensions: int) -> None:
        """The file comes first, then what the provider implies."""
        embedder = read(f"[embedder]\n{lines}").embedder
        assert (embedder.model, embedder.dimensions) == (model, dimensions)

    def test_another_model_of_mistral_needs_its_dimensions(self) -> None:
        """1,024 belongs to mistral-embed alone."""
        assert "[embedder] dimensions is missing" in refused('[embedder]\nmodel = "codestral-embed"')

    def test_overlap_is_a_tenth_of_the_size(self) -> None:
        """A chunk table may give its size alone."""
        chunk = read(BLOG + "chunk = { size = 50 }").vectorizers[0].chunk
        assert chunk == "none" or (chunk.size, chunk.overlap) == (50, 5)

    def test_a_target_without_dsn_is_the_source(self) -> None:
        """An absent [target] means the source's database."""
        assert read('[source]\ndsn = "host=a"').target_dsn == "host=a"


class TestRefusals:
    """Wrong settings are named, with their fix."""

    @pytest.mark.parametrize(
        ("section", "line", "says"),
        [
            ("source", 'dsn = "postgresql://[h/x"', "[source] dsn is not a connection string"),
            ("source", 'slot = "My-Slot"', "[source] slot is not a slot name"),
            ("source", f'slot = "{"s" * 64}"', "[source] slot is not a slot name"),
            ("source", f'publication = "{"ä" * 32}"', "[source] publication is too long"),
            ("source", 'publication = " "', "[source] publication is blank"),
            ("source", 'plugin = "decoderbufs"', "[source] plugin must be 'auto', 'wal2json' or 'pgoutput'"),
            ("source", 'failover = "on"', '[source] failover must be "auto", true or false'),
            ("source", "failover = 1", '[source] failover must be "auto", true or false'),
            ("source", 'logical_decoding_work_mem = "63kB"', "is not a size from 64kB to 2047GB"),
            ("source", 'logical_decoding_work_mem = "64 MB"', "is not a size from 64kB to 2047GB"),
            ("source", 'logical_decoding_work_mem = "2048GB"', "is not a size from 64kB to 2047GB"),
            ("source", "logical_decoding_work_mem = 64", "must be a string"),
            ("source", "slot = 7", "[source] slot must be a string"),
            ("source", 'sloot = "x"', "[source] sloot is not a setting; did you mean slot?"),
            ("embedder", "dimensions = 0", "[embedder] dimensions must be greater than or equal to 1"),
            ("embedder", "dimensions = 16001", "[embedder] dimensions must be less than or equal to 16000"),
            (
                "embedder",
                "dimensions = 4001",
                "[[vectorizer]] blog index cannot be hnsw past 4000 dimensions",
            ),
            ("embedder", 'dimensions = "1024"', "[embedder] dimensions must be a whole number"),
            ("embedder", "dimensions = 10.5", "[embedder] dimensions must be a whole number"),
            ("embedder", "dimensions = true", "[embedder] dimensions must be a whole number"),
            ("embedder", 'provider = "mistrl"', "[embedder] provider must be 'mistral', 'openai'"),
            ("embedder", "provider = []", "[embedder] provider must be"),
            ("embedder", 'base_url = "localhost:80"', "[embedder] base_url is not the address of a server"),
            ("embedder", 'base_url = "http:///v2"', "[embedder] base_url is not the address of a server"),
            ("embedder", 'base_url = "http://h/v1"', "[embedder] base_url must not end in /v1"),
            ("embedder", 'api_key_env = "k-1"', "[embedder] api_key_env is not the name of an environment"),
            ("embedder", "timeout = 0", "[embedder] timeout must be greater than 0"),
            ("embedder", "timeout = inf", "[embedder] timeout must be a finite number"),
            (
                "embedder",
                "requests_per_second = -1",
                "[embedder] requests_per_second must be greater than or",
            ),
            ("embedder", "concurrency = 0", "[embedder] concurrency must be greater than or equal to 1"),
            ("pipeline", "batch_rows = -1", "[pipeline] batch_rows must be greater than or equal to 1"),
            ("pipeline", "batch_delay = nan", "[pipeline] batch_delay must be"),
            ("pipeline", "max_buffer_bytes = 1", "[pipeline] max_buffer_bytes must be greater than or equal"),
            ("http", 'listen = "9187"', "[http] listen is not host:port"),
            ("http", 'listen = "h:65536"', "[http] listen is not host:port"),
            ("log", 'level = "loud"', "[log] level must be 'debug', 'info', 'warning' or 'error'"),
            (
                "vectorizer",
                "chunk = { size = 5, overlap = 5 }",
                "blog chunk.overlap must be smaller than size",
            ),
            ("vectorizer", "chunk = { size = 0 }", "blog chunk.size must be greater than or equal to 1"),
            ("vectorizer", "chunk = { sise = 1 }", "blog chunk.sise is not a setting; did you mean size?"),
            ("vectorizer", 'chunk = "all"', 'blog chunk must be "none" or a table'),
            ("vectorizer", "chunk = 3", "blog chunk must be a table"),
            ("vectorizer", 'where = ""', "blog where is blank"),
            ("vectorizer", 'metric = "dot"', "blog metric must be 'cosine', 'l2' or 'ip'"),
        ],
    )
    def test_names_the_key_and_what_is_wrong(self, section: str, line: str, says: str) -> None:
        """A refusal names the key as the file spells it."""
        assert says in refused(table(section, line))

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ('"blog"', '"my blog"', "name is not usable as a name"),
            ('"public.blog"', '"a.b.c"', "table is not a table name"),
            ('"public.blog"', '"public."', "table is not a table name"),
            ('"public.blog"', f'"{"x" * 64}"', "table has a part longer than PostgreSQL's 63 bytes"),
            ('"public.blog"', "1", "table must be a string"),
            ('"title"', '"  "', "text is blank"),
            ('"public.blog_embedding"', '"public.blog"', "target is a source table"),
            ('"public.blog_embedding"', '"walvec.blog"', "target may not be in schema walvec"),
        ],
    )
    def test_a_vectorizer_that_cannot_work(self, old: str, new: str, says: str) -> None:
        """Names, tables and expressions are checked before any database is asked."""
        assert says in refused(BLOG.replace(old, new, 1))

    def test_one_name_twice(self) -> None:
        """Two vectorizers cannot share a name, in the environment's spelling either."""
        other = BLOG.replace('"blog"', '"BLOG"').replace("embedding", "other")
        assert "[[vectorizer]] number 2 name" not in (text := refused(BLOG + other))
        assert "[[vectorizer]] BLOG name is the name of another vectorizer too" in text

    def test_one_target_twice(self) -> None:
        """Two vectorizers never write to one table."""
        other = BLOG.replace('"blog"', '"other"')
        assert "[[vectorizer]] other target is another vectorizer's target too" in refused(BLOG + other)

    def test_a_target_named_as_the_source_in_another_database(self) -> None:
        """The same name in another database is another table."""
        text = '[target]\ndsn = "dbname=other"' + BLOG.replace("blog_embedding", "blog")
        assert read(text).vectorizers[0].target == ("public", "blog")

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            ('provider = "openai"', "model is missing"),
            ('provider = "openai"\nmodel = "m"', "dimensions is missing"),
            ('provider = "openai"\nmodel = "m"\ndimensions = 2\nbase_url = "http://h"', "must end in /v1"),
            ('provider = "python"\nmodel = "embed"\ndimensions = 2', "model does not name a function"),
            ('provider = "local"\nmodel = "another"', "model is not the local model"),
            (
                'provider = "local"\ndimensions = 128',
                "dimensions are not those of the local model",
            ),
        ],
    )
    def test_what_a_provider_needs(self, lines: str, says: str) -> None:
        """Each provider has its own conditions."""
        assert says in refused(f"[embedder]\n{lines}")

    def test_every_mistake_is_listed_with_its_line(self) -> None:
        """One refusal lists everything that has to be fixed."""
        text = refused('[source]\nsloot = "x"\n[log]\nlevel = 1\n' + BLOG)
        assert text.splitlines() == [
            "2 settings are wrong",
            "  walvec.toml line 2: [source] sloot is not a setting; did you mean slot?",
            "  walvec.toml line 4: [log] level must be 'debug', 'info', 'warning' or 'error'",
        ]

    def test_lines_within_a_long_string_are_no_keys(self) -> None:
        """A multi-line expression may hold what looks like TOML."""
        text = BLOG.replace('"title"', '"""title ||\n[log]\nindex = 1"""') + 'index = "btree"\n'
        assert "walvec.toml line 9: [[vectorizer]] blog index" in refused(text)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("source = 1", "[source] must be a table"),
            (
                "[vectorizer]",
                "[vectorizer] must be an array of tables; write [[vectorizer]], with two brackets",
            ),
            ("vectorizer = [1]", "[[vectorizer]] number 1 must be a table"),
            ("[Source]", "[Source] is not a setting; did you mean source?"),
            ("[source]\nslot = x", "walvec.toml is not TOML: Invalid value (at line 2, column 8)"),
        ],
    )
    def test_a_file_of_another_shape(self, text: str, says: str) -> None:
        """A section must be a table, and TOML's own errors keep their place."""
        assert says in refused(text)

    def test_a_file_in_another_encoding(self) -> None:
        """A file that is not UTF-8 is refused."""
        with pytest.raises(ConfigInvalid, match="not UTF-8"):
            read("# ä", encoding="latin-1")

    def test_no_file(self) -> None:
        """The refusal of a missing file names the command that writes one."""
        with pytest.raises(ConfigInvalid, match=r"walvec.toml does not exist; `walvec init"):
            load_config()

    def test_a_directory(self, tmp_path: Path) -> None:
        """A path that cannot be read is refused as such."""
        with pytest.raises(ConfigInvalid, match="cannot be read: Is a directory"):
            load_config(tmp_path)

    def test_no_pydantic_in_the_message(self) -> None:
        """A refusal shows no class, URL or input of pydantic's report."""
        text = refused("source = 1\n" + BLOG + "chunk = 3\nmetric = 2")
        assert not re.search(r"pydantic|input|type=|Source|instance", text)


class TestSecrets:
    """No message and no repr shows a value that may be secret."""

    @pytest.mark.parametrize(
        "text",
        [
            '[source]\ndsn = "postgresql://u:hunter2@[h/db"',
            '[source]\ndsn = "hunter2"',
            "[source]\ndsn = [{hunter2 = 2}]",
            '[embedder]\napi_key_env = "sk-hunter2"',
            '[embedder]\nbase_url = "hunter2"',
            '[embedder]\nprovider = "hunter2"',
            '[log]\nlevel = "hunter2"',
            '[[vectorizer]]\nname = "hunter 2 hunter2"',
        ],
    )
    def test_no_value_is_ever_shown(self, text: str) -> None:
        """Any value may be a secret pasted in the wrong place."""
        assert "hunter2" not in refused(text)

    @pytest.mark.parametrize(
        "dsn",
        [
            "postgresql://u:p@hunter2@h/db",
            "postgresql://u:p@@hunter2@h/db",
            "postgresql://u:p@hunter2@h1,h2/db",
            "postgresql://u:12/hunter2@h/db",
            "postgresql://u:hunter2/x@h/db",
            "postgresql://u:hunter2",
            "postgresql://u:p?host=@hunter2@h/db",
            "postgresql://u:p%hunter2@h/db",
            "postgresql://u:p [hunter2@h/db?",
            "host=hunter2@h password=p",
            "host=h hostaddr=hunter2@1.1.1.1",
            "host=h password=p hunter2",
            "host=h password='p'hunter2'",
            "host=h port=hunter2",
            "host=h dbname=postgresql://u:hunter2@h/db",
        ],
    )
    @pytest.mark.parametrize("section", ["source", "target"])
    def test_a_password_that_became_another_part_is_refused(self, section: str, dsn: str) -> None:
        """An address that libpq misreads is refused, and none of it is shown."""
        text = refused(f'[{section}]\ndsn = "{dsn}"')
        assert f"[{section}] dsn" in text
        assert "hunter2" not in text

    @pytest.mark.parametrize(
        "dsn",
        [
            "postgresql://u:p%40ss@h/db",
            "postgresql://u:p:s#s?s@h:5432/db",
            "postgresql://u@h1:1,h2:2/db?target_session_attrs=read-write",
            "postgresql://%2Ftmp/db",
            "postgresql://h/db?user=u&password=p@ss",
            "postgresql://u:p@[::1]:5432/db",
            "host=/tmp user=me@server password=p@ss/w",
        ],
    )
    def test_an_address_that_says_what_is_meant_is_taken(self, dsn: str) -> None:
        """Encoded passwords, and special characters where they may be, are accepted."""
        assert read(f'[source]\ndsn = "{dsn}"').source_dsn == dsn

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("PGHOST", "hunter2@h"),
            ("PGHOSTADDR", "hunter2@::1"),
            ("PGPORT", "hunter2"),
            ("PGDATABASE", "postgresql://u:hunter2@h/db"),
        ],
    )
    def test_a_variable_of_libpq_is_refused_alike(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
    ) -> None:
        """PGHOST and its like are checked where they complete the connection string."""
        monkeypatch.setenv(variable, value)
        text = refused("")
        assert variable in text
        assert "hunter2" not in text
        whole = "host=h hostaddr=::1 port=1 dbname=d"
        assert read(f'[source]\ndsn = "{whole}"').source_dsn == whole

    @pytest.mark.parametrize(
        "url",
        ["https://u:hunter2/x@h", "https://u:p/hunter2@h", "https://u:p?hunter2@h", "https://u:p#hunter2@h"],
    )
    def test_an_embedder_s_address_is_refused_alike(self, url: str) -> None:
        """An unencoded / in an embedder's password, which misplaces the host, is refused."""
        assert "hunter2" not in refused(f'[embedder]\nbase_url = "{url}"')

    def test_a_dsn_has_no_repr(self) -> None:
        """Printing the settings is safe."""
        config = read('[source]\ndsn = "postgresql://u:hunter2@h/db"')
        assert "hunter2" not in f"{config!r} {config} {config.model_dump()}"
        assert config.source_dsn == "postgresql://u:hunter2@h/db"


class TestEnvironment:
    """WALVEC_SECTION__KEY variables."""

    @pytest.mark.parametrize(
        ("variable", "text", "path", "value"),
        [
            ("WALVEC_SOURCE__SLOT", "other", ("source", "slot"), "other"),
            ("WALVEC_SOURCE__FAILOVER", "false", ("source", "failover"), False),
            ("WALVEC_SOURCE__FAILOVER", "auto", ("source", "failover"), "auto"),
            ("WALVEC_EMBEDDER__DIMENSIONS", "7", ("embedder", "dimensions"), 7),
            ("WALVEC_EMBEDDER__TIMEOUT", "7", ("embedder", "timeout"), 7.0),
            ("WALVEC_PIPELINE__BATCH_ROWS", "7", ("pipeline", "batch_rows"), 7),
            ("WALVEC_HTTP__LISTEN", "", ("http", "listen"), ""),
            ("WALVEC_LOG__LEVEL", "debug", ("log", "level"), "debug"),
            ("WALVEC_VECTORIZER__BLOG__INDEX", "none", ("vectorizers", 0, "index"), "none"),
            ("WALVEC_VECTORIZER__BLOG__CHUNK", "none", ("vectorizers", 0, "chunk"), "none"),
            ("WALVEC_VECTORIZER__BLOG__CHUNK__SIZE", "50", ("vectorizers", 0, "chunk", "size"), 50),
            ("WALVEC_VECTORIZER__BLOG__TABLE", "a.b", ("vectorizers", 0, "table"), ("a", "b")),
        ],
    )
    def test_wins_over_the_file(
        self,
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
        text: str,
        path: tuple[str | int, ...],
        value: object,
    ) -> None:
        """Every key has a variable, which wins."""
        monkeypatch.setenv(variable, text)
        found: Any = read(table("source", 'slot = "file"')).model_dump()
        for key in path:
            found = found[key]
        assert found == value

    def test_a_section_keeps_its_other_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable replaces one key, not its table."""
        monkeypatch.setenv("WALVEC_SOURCE__SLOT", "other")
        assert read(table("source", 'publication = "file"')).source.publication == "file"

    def test_names_with_underscores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The longest name that fits is meant; a dash is written as an underscore."""
        monkeypatch.setenv("WALVEC_VECTORIZER__BLOG__OLD_ONE__TEXT", "body")
        other = BLOG.replace('"blog"', '"blog__old-one"').replace("embedding", "other")
        assert [each.text for each in read(BLOG + other).vectorizers] == ["title", "body"]

    def test_replaces_all_vectorizers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One variable can hold all vectorizers, so that a container needs no file."""
        monkeypatch.setenv("WALVEC_VECTORIZER", '[{"name":"a","table":"t","text":"x","target":"e"}]')
        assert [each.name for each in load_config().vectorizers] == ["a"]

    @pytest.mark.parametrize(
        ("variable", "text", "says"),
        [
            ("WALVEC_SORCE__SLOT", "x", "WALVEC_SORCE__SLOT is not a setting; did you mean source?"),
            ("WALVEC_SOURCE__SLOTS", "x", "WALVEC_SOURCE__SLOTS is not a setting; did you mean slot?"),
            ("WALVEC_SOURCE__SLOT__X", "x", "WALVEC_SOURCE__SLOT__X is not a setting"),
            (
                "WALVEC_EMBEDDER__TIMEOUT",
                "x",
                "WALVEC_EMBEDDER__TIMEOUT: [embedder] timeout must be a number",
            ),
            (
                "WALVEC_VECTORIZER__BLOGG__TEXT",
                "x",
                "WALVEC_VECTORIZER__BLOGG__TEXT belongs to no vectorizer",
            ),
            (
                "WALVEC_VECTORIZER__BLOG__TEXT",
                " ",
                "WALVEC_VECTORIZER__BLOG__TEXT: [[vectorizer]] blog text is",
            ),
            ("WALVEC_VECTORIZER", "[", "WALVEC_VECTORIZER is not JSON (character 1)"),
            ("WALVEC_VECTORIZER", "{}", "WALVEC_VECTORIZER: [vectorizer] must be an array of tables"),
            ("WALVEC_VECTORIZER", '[{"name":"a"}]', "WALVEC_VECTORIZER: [[vectorizer]] a table is missing"),
        ],
    )
    def test_a_wrong_variable_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, says: str
    ) -> None:
        """A variable that means nothing is refused, and the message names it."""
        monkeypatch.setenv(variable, text)
        assert says in refused(BLOG)

    def test_other_variables_are_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable without a double underscore is not a setting."""
        monkeypatch.setenv("WALVEC_TEST_DSN", "host=x")
        assert read(BLOG).source_dsn == ""


class TestTableName:
    """Names of tables in the file."""

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("blog", ("public", "blog")),
            ("App.Blog", ("App", "Blog")),
            ('"my app"."a.b"', ("my app", "a.b")),
            ('app."say ""hi"""', ("app", 'say "hi"')),
            ("my app.blog posts", ("my app", "blog posts")),
            ("größe.ñ", ("größe", "ñ")),
        ],
    )
    def test_reads_the_exact_spelling(self, text: str, name: tuple[str, str]) -> None:
        """A name is not folded; quotes allow for what is otherwise punctuation."""
        assert TableName.parse(text) == name

    @pytest.mark.parametrize("text", ["", " ", ".", "a.", ".a", "a.b.c", 'a"b', '"a', '""', "a b .c", "a\0"])
    def test_refuses_what_is_no_name(self, text: str) -> None:
        """A malformed name is refused."""
        with pytest.raises(ValueError, match="is not a table name"):
            TableName.parse(text)

    @given(*[st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=15)] * 2)
    def test_is_spelt_so_that_it_reads_the_same(self, schema: str, name: str) -> None:
        """Any name that PostgreSQL allows can be written in the file."""
        assert TableName.parse(str(TableName(schema, name))) == (schema, name)


class TestHttp:
    """The address of the small server."""

    @pytest.mark.parametrize(
        ("listen", "address"),
        [
            ("127.0.0.1:9187", ("127.0.0.1", 9187)),
            ("[::1]:80", ("::1", 80)),
            ("localhost:0", ("localhost", 0)),
            ("", None),
        ],
    )
    def test_the_address(self, listen: str, address: tuple[str, int] | None) -> None:
        """The address is host and port, IPv6 in brackets, or nothing."""
        assert read(f'[http]\nlisten = "{listen}"').http.address == address


class TestSpot:
    """Where a vectorizer's key was set, for messages about its SQL."""

    def test_a_line_of_the_file(self) -> None:
        """A key is found by its line, and an absent one by its table's."""
        (vectorizer,) = read("\n# remark\n" + BLOG).vectorizers
        assert (vectorizer.spot("text"), vectorizer.spot("where")) == (
            "text (walvec.toml line 7)",
            "where (walvec.toml line 4)",
        )

    def test_of_each_vectorizer_its_own(self) -> None:
        """The second vectorizer's text is on the second one's line."""
        second = BLOG.replace('"blog"', '"other"').replace("_embedding", "_vectors")
        assert [each.spot("text") for each in read(BLOG + second).vectorizers] == [
            "text (walvec.toml line 5)",
            "text (walvec.toml line 11)",
        ]

    def test_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that a variable set is found by the variable's name."""
        monkeypatch.setenv("WALVEC_VECTORIZER__BLOG__TEXT", "contents")
        (vectorizer,) = read(BLOG).vectorizers
        assert vectorizer.spot("text") == "text (WALVEC_VECTORIZER__BLOG__TEXT)"

    def test_all_vectorizers_in_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A vectorizer without a file is found by the variable that holds them all."""
        blog = '[{"name": "blog", "table": "blog", "text": "title", "target": "blog_embedding"}]'
        monkeypatch.setenv("WALVEC_VECTORIZER", blog)
        (vectorizer,) = load_config().vectorizers
        assert vectorizer.spot("text") == "text (WALVEC_VECTORIZER)"
