from pathlib import Path

import pytest

from walvec.config.exposure import find_exposure

SECRETS = [
    '[source]\ndsn = "postgresql://walvec:hunter2@db/app"',
    "[target]\ndsn = \"host=db password='hunter2'\"",
    '[source]\ndsn = "host=db sslkey=k sslpassword=hunter2"',
    '[embedder]\nprovider = "openai"\nbase_url = "https://walvec:hunter2@api.example.org/v1"',
]


def written(directory: Path, text: str, mode: int) -> Path:
    """Write a settings' file that these users may read."""
    path = directory / "walvec.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_that_everybody_can_read(tmp_path: Path, text: str) -> None:
    """A secret that everybody can read is reported with the fix, and not shown."""
    path = written(tmp_path, text, 0o644)
    finding = find_exposure(path)
    assert finding is not None
    assert (finding.level, finding.remedy and finding.remedy.split(";")[0]) == (
        "warning",
        f"chmod o-r {path}",
    )
    assert "hunter2" not in str(finding)


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_secret_that_is_kept(tmp_path: Path, text: str, mode: int) -> None:
    """A file that only its owner or a group can read is fine."""
    assert find_exposure(written(tmp_path, text, mode)) is None


@pytest.mark.parametrize("text", ["", '[source]\ndsn = "postgresql://walvec@db/app"'])
def test_no_secret(tmp_path: Path, text: str) -> None:
    """A file without a secret may be read by everybody."""
    assert find_exposure(written(tmp_path, text, 0o644)) is None


def test_no_file(tmp_path: Path) -> None:
    """Settings that come from the environment expose nothing."""
    assert find_exposure(tmp_path / "walvec.toml") is None
