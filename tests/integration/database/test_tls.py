"""Every connection of walvec is encrypted, to a server that proves who it is."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fix_embedding_service import EmbeddingService
from tests.fix_postgres import Cluster
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec_slots.errors import PreconditionFailed

HBA = """local all all trust
hostssl all all 127.0.0.1/32 scram-sha-256
"""

SESSIONS = """
    SELECT a.application_name, s.ssl
    FROM pg_stat_activity AS a JOIN pg_stat_ssl AS s USING (pid)
    WHERE a.application_name LIKE 'walvec%'
"""
ROLES = {"backfill", "catalog", "evaluate", "lookup", "stream", "writer"}


def certify(directory: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate of localhost, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    directory.mkdir()
    certificate, key = directory / "server.crt", directory / "server.key"
    words = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(
        ["openssl", *words.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    return certificate, key


def put(admin: psycopg.Connection, name: str, text: str) -> None:
    """Write a file into the server's data directory, as the server's own user."""
    admin.execute(
        sql.SQL("COPY (SELECT unnest(string_to_array({}, E'\\n'))) TO PROGRAM {}").format(
            sql.Literal(text), sql.Literal(f"umask 077; cat > {name}")
        )
    )


@pytest.fixture
def encrypted(cluster: Cluster, tmp_path: Path) -> str:
    """Return the connection string of a server that takes only TLS over TCP."""
    certificate, key = certify(tmp_path / "server")
    password = token_hex()
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        put(admin, "server.crt", certificate.read_text())
        put(admin, "server.key", key.read_text())
        put(admin, "pg_hba.conf", HBA)
        admin.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(password)))
        admin.execute("CREATE EXTENSION vector")
        port = admin.info.port
    cluster.set("ssl", "on")
    return make_conninfo(
        host="localhost",
        hostaddr="127.0.0.1",
        port=port,
        user="postgres",
        password=password,
        dbname="postgres",
        sslmode="verify-full",
        sslrootcert=str(certificate),
    )


@pytest.fixture
def sidecar(
    encrypted: str,
    tmp_path: Path,
    embedding_service: EmbeddingService,
    log: list[dict[str, Any]],
) -> Iterator[Sidecar]:
    """Return a sidecar on that server."""
    until(lambda: reachable(encrypted), "the server takes TLS")
    own = Sidecar(encrypted, encrypted, tmp_path, embedding_service, log)
    own.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    own.source.execute("INSERT INTO blog VALUES (1, 'one')")
    own.follow("blog")
    own.setup()
    yield own
    own.close()


def reachable(dsn: str) -> bool:
    """Return whether the server has reloaded its settings."""
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


def test_every_session_is_encrypted(sidecar: Sidecar) -> None:
    """Every session is encrypted, the stream's too: the server refuses any other."""
    with sidecar.running():
        sidecar.source.execute("INSERT INTO blog VALUES (2, 'two')")
        sidecar.in_step()
        sessions: list[tuple[str, bool]] = sidecar.source.execute(SESSIONS).fetchall()
    assert {(f"walvec {role}", True) for role in ROLES} <= set(sessions)
    assert all(encrypted for _, encrypted in sessions)
    assert sidecar.actual() == sidecar.expected()


def test_a_server_that_cannot_prove_itself_is_refused(sidecar: Sidecar, tmp_path: Path) -> None:
    """Nothing is sent to a server of another root certificate; the reason is given."""
    other, _ = certify(tmp_path / "other")
    sidecar.settings["source"]["dsn"] = make_conninfo(
        sidecar.settings["source"]["dsn"], sslrootcert=str(other)
    )
    error = sidecar.refusal(sidecar.once)
    assert isinstance(error, PreconditionFailed)
    assert "certificate verify failed" in error.what
