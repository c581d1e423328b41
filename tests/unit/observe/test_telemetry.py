from array import array

from prometheus_client.parser import text_string_to_metric_families

from walvec.database.registry import Phase
from walvec.observe.prometheus import Exposition
from walvec.observe.telemetry import Tally, Telemetry
from walvec.stages.batch import Batch, Committed, Parked, Position
from walvec.stages.vitals import BackfillStanding, Vitals
from walvec.vectorizer.target import Chunk
from walvec_slots.lsn import Lsn

Sample = tuple[str, tuple[tuple[str, str], ...]]


def exported(telemetry: Telemetry) -> dict[Sample, float]:
    """Return what a scrape reads, by name and labels."""
    families = text_string_to_metric_families(Exposition(telemetry).text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def vitals(phase: Phase = "rows") -> Vitals:
    """Return the vitals of an attachment in the middle of its work."""
    return Vitals(
        received=Lsn(500),
        saved=Lsn(200),
        confirmed=Lsn(100),
        lag_seconds=2.5,
        stalled_for=1.5,
        write_failure=None,
        buffered=4096,
        in_flight={"blog": 2},
        queued={"blog": 1},
        backfills={"blog": BackfillStanding(phase, 7, 10)},
        paused=["news"],
        slot=None,
        dead_letters={"blog": 3},
    )


def test_tally_counts_up_to_and_including_each_bound() -> None:
    """A bucket counts the values up to its bound, as Prometheus defines it."""
    tally = Tally((1, 10))
    for value in (0, 1, 2, 10, 11):
        tally.add(value)
    assert (list(tally.buckets()), tally.sum) == ([("1.0", 2), ("10.0", 4), ("+Inf", 5)], 24)


def test_every_row_and_text_of_a_batch_has_one_outcome() -> None:
    """A parked row is not a deleted one, and a vector that only moves is not embedded."""
    telemetry = Telemetry("hashing")
    chunk, vector = Chunk("text", b"hash"), array("f", [1.0])
    batch = Batch(
        gone=[("1",), ("2",)],
        chunks=[(("3",), 0, chunk, vector), (("3",), 1, chunk, vector), (("4",), 0, chunk, None)],
        parked=[Parked(("2",), "embed", "InputRefused", "no")],
        settled=[("1",), ("3",), ("4",), ("5",)],
        embedded=2,
        refused=1,
        texts=5,
    )
    telemetry.committed(Committed("blog", batch, Position(Lsn(1), Lsn(1), ())))
    assert telemetry.rows == {
        ("blog", "embedded"): 1,
        ("blog", "unchanged"): 2,
        ("blog", "deleted"): 1,
        ("blog", "parked"): 1,
    }
    assert telemetry.texts == {("blog", "embedded"): 1, ("blog", "refused"): 1, ("blog", "reused"): 3}
    assert exported(telemetry)["walvec_batch_rows_count", (("vectorizer", "blog"),)] == 1
    assert exported(telemetry)["walvec_batch_rows_sum", (("vectorizer", "blog"),)] == 5


def test_an_attachment_is_read_off_as_it_is() -> None:
    """A scrape reads the attachment's vitals at that moment."""
    telemetry = Telemetry("hashing")
    telemetry.attached(vitals)
    blog = ("vectorizer", "blog")
    expected: dict[Sample, float] = {
        ("walvec_attached", ()): 1,
        ("walvec_lag_bytes", ()): 300,
        ("walvec_confirmed_lsn", ()): 100,
        ("walvec_lag_seconds", ()): 2.5,
        ("walvec_stall_seconds", ()): 1.5,
        ("walvec_target_writable", ()): 1,
        ("walvec_segments_in_flight", (blog,)): 2,
        ("walvec_dead_letters", (blog,)): 3,
        ("walvec_vectorizer_paused", (blog,)): 0,
        ("walvec_vectorizer_paused", (("vectorizer", "news"),)): 1,
        ("walvec_backfill_rows", (blog,)): 7,
        ("walvec_backfill_phase", (("phase", "rows"), blog)): 1,
        ("walvec_backfill_phase", (("phase", "done"), blog)): 0,
    }
    found = exported(telemetry)
    assert {sample: found[sample] for sample in expected} == expected


def test_without_an_attachment_there_are_no_old_values() -> None:
    """Without an attachment there is no lag, since an old one would look healthy."""
    telemetry = Telemetry("hashing")
    telemetry.attached(vitals)
    telemetry.detached("trying again")
    names = {name for name, _ in exported(telemetry)}
    assert "walvec_attached" in names
    assert (
        not {"walvec_lag_bytes", "walvec_lag_seconds", "walvec_confirmed_lsn", "walvec_segments_in_flight"}
        & names
    )
