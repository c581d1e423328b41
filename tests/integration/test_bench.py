import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.fix_postgres import CHECKOUT

pytestmark = pytest.mark.slow

_LEFT = r"""
SELECT datname FROM pg_database WHERE datname LIKE 'bench\_%'
UNION ALL
SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'bench\_%'
"""


@pytest.mark.parametrize("part", ["saturation", "scale"])
def test_a_part_measures_and_saves_what_it_found(part: str, server: str, tmp_path: Path) -> None:
    """QUICK=1 runs it on few rows; it prints its table, saves its results, and leaves nothing behind."""
    environment = {"BENCH_DSN": server, "BENCH_DIRECTORY": str(tmp_path), "QUICK": "1"}
    measured = subprocess.run(
        [sys.executable, "-m", f"bench.{part}"],
        cwd=CHECKOUT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (measured.returncode, measured.stderr) == (0, f"-- {part}\n")
    saved = json.loads((tmp_path / f"quick/{part}.json").read_text(encoding="utf-8"))
    assert (saved["part"], saved["quick"], saved["skipped"]) == (part, True, "")
    assert saved["results"]
    with psycopg.connect(server) as admin:
        assert admin.execute(_LEFT).fetchall() == []
    assert all(result["target"] in measured.stdout for result in saved["results"])
