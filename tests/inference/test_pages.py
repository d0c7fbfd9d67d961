"""The system is told how a bundle's files are read and what may go first."""

from pathlib import Path

from inference.bundle import load_bundle
from inference.pages import drop_folder, let_cool
from tests.inference.tiny_bundle import write_bundle


def mapping(path: Path) -> dict[str, str]:
    """Read what the system says of this process's mapping of a file: its flags, and KiB by kind."""
    facts: dict[str, str] = {}
    is_wanted = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if "-" in name.split()[0] and not value.endswith("kB"):
            is_wanted = line.endswith(str(path))
        elif is_wanted:
            facts[name] = value.strip()
    return facts


def test_a_history_is_read_without_its_neighbours(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    for name, is_at_random in (("history_articles", True), ("history_days", True), ("customer_keys", False)):
        flags = mapping(tiny_bundle / f"{name}.npy")["VmFlags"].split()
        assert ("rr" in flags) == is_at_random, name
    assert len(bundle.history_articles)


def test_what_cools_stays_and_may_go_first(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "v1"))
    path = bundle.folder / "customer_keys.npy"
    before = bundle.customer_keys.tolist()
    assert mapping(path)["Referenced"] != "0 kB"
    let_cool(bundle.customer_arrays())
    assert (mapping(path)["Referenced"], mapping(path)["Rss"]) == ("0 kB", "4 kB")
    assert bundle.customer_keys.tolist() == before


def test_a_folder_that_is_gone_has_no_pages_to_drop(tmp_path: Path) -> None:
    drop_folder(tmp_path / "pruned")
