import pytest

from walvec_slots.known_faults import KNOWN_FAULTS, faults_of, minor_to_upgrade_to


@pytest.mark.parametrize("version", [180000, 170006, 160010, 150014, 140019, 190000, 130000])
def test_servers_without_a_known_fault(version: int) -> None:
    """The newest minor releases have none, and nothing is claimed of other major versions."""
    assert faults_of(version) == []


@pytest.mark.parametrize(
    ("version", "minor"), [(170005, "17.6"), (160008, "16.10"), (150012, "15.14"), (140000, "14.19")]
)
def test_the_release_to_upgrade_to_has_none_of_the_faults(version: int, minor: str) -> None:
    """The advice is the first minor release of the same major version that is free of them."""
    assert minor_to_upgrade_to(faults_of(version), version) == minor
    major, _, number = minor.partition(".")
    assert faults_of(int(major) * 10_000 + int(number)) == []


def test_a_fault_may_come_with_a_minor_release() -> None:
    """A fault that 17.5 brought is not reported of 17.4."""
    [broken] = [fault for fault in KNOWN_FAULTS if fault.since]
    assert broken in faults_of(170005)
    assert broken not in faults_of(170004)


def test_every_fault_names_where_it_is_described() -> None:
    """The section belongs to the release that fixes the fault."""
    for fault in KNOWN_FAULTS:
        assert fault.section.startswith(f"17.{fault.fixed_in[17]},")
