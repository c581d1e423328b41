"""SIGKILL at random moments under random load: 10 times with every `make test`, 100 with `make torture`."""

import os
import random
import time

import pytest

from tests.crash import torture
from tests.crash.observe import committed_texts, confirmed_no_more_than_saved, differences
from tests.fix_process import until
from tests.fix_sidecar import Sidecar

KILLS = int(os.environ.get("WALVEC_KILLS", "10"))
SEED = int(os.environ.get("WALVEC_SEED", time.time_ns() % 1_000_000))
CHECK_EVERY = 5  # kills
LIFE = 2.5  # seconds that a process lives at most, its start of about half a second included


@pytest.mark.timeout(60 + 12 * KILLS)
def test_random_kills_under_random_load(distant_sidecar: Sidecar) -> None:
    """After any number of kills the target is f(source), and no vector is paid for twice."""
    print(f"WALVEC_SEED={SEED}")  # noqa: T201
    sidecar, chance = distant_sidecar, random.Random(SEED)
    torture.prepare(sidecar)
    paid: set[str] = set()
    with torture.Load(sidecar, SEED) as load:
        for kill in range(1, KILLS + 1):
            process = sidecar.start("run")
            time.sleep(chance.uniform(0, LIFE))
            assert process.code is None, process.log[-3:]
            process.kill()

            assert confirmed_no_more_than_saved(sidecar)
            until(lambda: not sidecar.service.in_flight, "the end of what the dead one asked for")
            assert not paid.intersection(sidecar.service.texts), "paid for twice"
            if kill % CHECK_EVERY == 0 or kill == KILLS:
                with load.pause():
                    converges(sidecar)
            sidecar.service.forget()
            paid = {text for text in committed_texts(sidecar) if not text.startswith("note")}


def converges(sidecar: Sidecar) -> None:
    """Let walvec catch up, and compare."""
    process = sidecar.start("run")
    sidecar.in_step(timeout=60)
    assert process.stop() == 0
    assert differences(sidecar) == []
