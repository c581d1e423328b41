import subprocess
import sys

import pytest

from walvec.config.sections import EmbedderSettings
from walvec.embed.protocol import open_embedder
from walvec_slots.errors import PreconditionFailed

_OPEN = """
import sys
from walvec.embed.protocol import open_embedder
from walvec.config.sections import EmbedderSettings
open_embedder(EmbedderSettings.model_validate({settings}))
print(sorted({{"aiohttp", "httpx2", "mistralai"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"provider": "mistral", "api_key_env": "KEY"},
        {"provider": "openai", "model": "m", "dimensions": 8, "base_url": "http://localhost/v1"},
    ],
)
def test_no_http_client_is_imported_before_it_is_used(settings: dict[str, object]) -> None:
    """A start does not wait for an HTTP client, since the stream comes first."""
    code = _OPEN.format(settings=settings)
    done = subprocess.run(
        [sys.executable, "-c", code], env={"KEY": "k"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "bell\a"])
def test_what_no_header_may_hold_is_no_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a key is refused at the start; the message has only its variable."""
    monkeypatch.setenv("KEY", key)
    with pytest.raises(PreconditionFailed, match="KEY") as caught:
        open_embedder(EmbedderSettings.model_validate({"provider": "mistral", "api_key_env": "KEY"}))
    assert key not in str(caught.value)
