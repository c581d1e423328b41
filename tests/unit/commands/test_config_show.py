import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from walvec.commands.config_show import show
from walvec.config.load import Config, load_config

FILE = """
[source]
dsn = "postgresql://walvec:hunter2@db.example.org/app"
failover = false
logical_decoding_work_mem = "256MB"
[target]
dsn = "host=h password=hunter2"
[embedder]
provider = "openai"
model = "m"
dimensions = 3
base_url = "http://me:hunter2@localhost:8000/v1"

[[vectorizer]]
name = "blog"
table = 'app."odd.name"'
text = '''title || E'\\n' -- "quoted"
'''
target = "public.blog_embedding"
chunk = { size = 100 }

[[vectorizer]]
name = "page-2"
table = "page"
text = "body"
target = "page_embedding"
chunk = "none"
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with secrets, and variables beside it."""
    monkeypatch.setenv("WALVEC_EMBEDDER__TIMEOUT", "9")
    monkeypatch.setenv("WALVEC_VECTORIZER__PAGE_2__WHERE", "body <> ''")
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    (tmp_path / "walvec.toml").write_text(FILE)
    return tmp_path / "walvec.toml"


def shown(path: Path, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> str:
    """What the command prints."""
    show(load_config(path), path, as_json=as_json)
    return capsys.readouterr().out


def without_secrets(config: Config) -> dict[str, Any]:
    """The settings but for the strings that hold secrets."""
    document = config.model_dump()
    del document["source"]["dsn"], document["target"]["dsn"], document["embedder"]["base_url"]
    return document


def origins(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[object, str]]:
    """Map each key to its value and its origin."""
    settings = json.loads(shown(path, capsys, as_json=True))["settings"]
    return {".".join(map(str, each["path"])): (each["value"], each["origin"]) for each in settings}


def test_what_is_shown_can_be_read_back(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same settings, without a variable's help."""
    before, text = load_config(path), shown(path, capsys)
    monkeypatch.delenv("WALVEC_EMBEDDER__TIMEOUT")
    monkeypatch.delenv("WALVEC_VECTORIZER__PAGE_2__WHERE")
    assert without_secrets(Config(**tomllib.loads(text))) == without_secrets(before)


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_are_masked(path: Path, capsys: pytest.CaptureFixture[str], *, as_json: bool) -> None:
    """Passwords of either form, that of an address, and what is in the variables."""
    text = shown(path, capsys, as_json=as_json)
    assert "hunter2" not in text
    assert text.count("***") == 3


def test_every_origin_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """File and line, a variable, a default, or nobody."""
    found = origins(path, capsys)
    assert found["source.failover"] == (False, f"{path} line 4")
    assert found["source.logical_decoding_work_mem"] == ("256MB", f"{path} line 5")
    assert found["embedder.model"] == ("m", f"{path} line 10")
    assert found["embedder.timeout"] == (9.0, "WALVEC_EMBEDDER__TIMEOUT")
    assert found["embedder.concurrency"] == (8, "default")
    assert found["vectorizer.0.where"] == (None, "absent")
    assert found["vectorizer.0.table"] == ('app."odd.name"', f"{path} line 16")
    assert found["vectorizer.0.chunk.size"] == (100, f"{path} line 20")
    assert found["vectorizer.0.chunk.overlap"] == (10, "default")
    assert found["vectorizer.1.where"] == ("body <> ''", "WALVEC_VECTORIZER__PAGE_2__WHERE")
    assert found["vectorizer.1.chunk"] == ("none", f"{path} line 27")


def test_a_variable_that_is_pointed_to_is_told_to_be_set(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is the question; what is in it is not."""
    assert origins(path, capsys)["embedder.api_key_env"][1] == "default, which is set"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert origins(path, capsys)["embedder.api_key_env"][1] == "default, which is not set"
    assert "PGPASSWORD" in origins(path, capsys)["source.dsn"][1]


def test_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environment alone will do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "WALVEC_VECTORIZER", '[{"name": "b", "table": "b", "text": "t", "target": "b_embedding"}]'
    )
    show(load_config(), None, as_json=True)
    found = json.loads(capsys.readouterr().out)
    (text,) = [each for each in found["settings"] if each["path"] == ["vectorizer", 0, "text"]]
    assert (found["file"], text["origin"]) == (None, "WALVEC_VECTORIZER")
