import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from inference.bundle import ArrayInvalid, ManifestInvalid, customer_key, load_bundle, seal_bundle, verify_bundle
from tests.inference.tiny_bundle import LAST_DAY, MAX_HISTORY, PARITY, customer_id, write_bundle, write_files

FACTS = {
    "version": "v1",
    "cutoff_date": "2020-09-16",
    "trained_through": "2020-09-22",
    "max_history": MAX_HISTORY,
    "parity": PARITY,
}


def test_customer_key_is_the_big_endian_blake2b_of_the_text() -> None:
    digest = hashlib.blake2b("Zoë".encode(), digest_size=8).hexdigest()
    assert customer_key("Zoë") == int(digest, 16)
    assert customer_key("\ud800") != customer_key("?")  # a lone surrogate is somebody unknown, not an error


def test_a_sealed_bundle_verifies_and_counts_what_it_holds(tiny_bundle: Path) -> None:
    manifest = verify_bundle(tiny_bundle)
    assert (manifest.n_articles, manifest.n_live, manifest.n_customers) == (40, 30, 2)
    assert manifest.max_top_k == 100
    on_disk = {path.name for path in tiny_bundle.iterdir()} - {"manifest.json"}
    assert set(manifest.files) == on_disk
    assert (
        manifest.files["is_live.npy"].sha256 == hashlib.sha256((tiny_bundle / "is_live.npy").read_bytes()).hexdigest()
    )


def test_the_same_files_and_facts_seal_to_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_bundle(tmp_path / "a"), write_bundle(tmp_path / "b")
    assert (first / "manifest.json").read_bytes() == (second / "manifest.json").read_bytes()


def test_load_maps_the_arrays_and_counts_ages_from_the_day_after_training(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    assert isinstance(bundle.history_days.base, np.memmap)
    assert not bundle.article_ids.flags.writeable
    assert bundle.as_of_day == LAST_DAY + 1
    assert bundle.customer_keys.tolist() == sorted([customer_key(customer_id(1)), customer_key(customer_id(2))])


def test_a_bundle_without_customers_is_valid(tmp_path: Path) -> None:
    write_files(tmp_path, histories={})
    for name, dtype, values in (
        ("customer_keys", np.uint64, []),
        ("customer_offsets", np.int64, [0]),
        ("history_articles", np.int32, []),
        ("history_days", np.int32, []),
        ("customer_segments", np.uint8, []),
    ):
        np.save(tmp_path / f"{name}.npy", np.array(values, dtype=dtype))
    seal_bundle(tmp_path, FACTS)
    assert verify_bundle(tmp_path).n_customers == 0


def test_unknown_facts_of_a_later_format_are_ignored_when_reading_and_refused_when_sealing(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"colour": "blue"}))
    assert verify_bundle(folder).version == "v1"
    with pytest.raises(ManifestInvalid, match=r"facts \['colour'\] are no fields"):
        seal_bundle(folder, FACTS | {"colour": "blue"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("is_live", np.ones(3, bool), r"is_live.npy: has 3 entries, expected 40"),
        ("is_live", np.ones(40, np.int8), r"is_live.npy: holds int8, expected bool"),
        ("is_live", np.ones((40, 1), bool), r"has the shape \(40, 1\), expected one dimension"),
        (
            "article_ids",
            np.full(40, b"0100000000", "S10"),
            "article_ids.npy: is not sorted, or names two articles alike",
        ),
        ("article_ids", np.array([b"%09d" % i for i in range(40)], "S10"), "not 10 characters long"),
        ("customer_keys", np.array([9, 1], np.uint64), "customer_keys.npy: is not sorted"),
        ("customer_offsets", np.array([0, 3, 2], np.int64), "customer_offsets.npy: goes backwards"),
        ("customer_offsets", np.array([1, 2, 2], np.int64), "customer_offsets.npy: starts at 1, expected 0"),
        ("customer_offsets", np.array([0, 1, 1], np.int64), "customer_offsets.npy: ends at 1, the histories at 2"),
        ("history_articles", np.array([3, 40], np.int32), "history_articles.npy: points outside the 40 articles"),
        ("history_articles", np.array([-1, 4], np.int32), "history_articles.npy: points outside the 40 articles"),
        ("history_days", np.array([LAST_DAY, LAST_DAY + 1], np.int32), "after trained_through"),
        ("history_days", np.array([LAST_DAY, LAST_DAY - 9], np.int32), "is not oldest to newest for a customer"),
        ("customer_segments", np.array([1], np.uint8), "customer_segments.npy: has 1 entries, expected 2"),
    ],
)
def test_arrays_that_contradict_the_rest_are_refused(
    tmp_path: Path, name: str, value: np.ndarray, message: str
) -> None:
    write_files(tmp_path)
    np.save(tmp_path / f"{name}.npy", value)
    with pytest.raises(ArrayInvalid, match=message):
        seal_bundle(tmp_path, FACTS)
    assert not (tmp_path / "manifest.json").exists()


def test_a_history_may_be_longer_than_what_the_graph_reads(tmp_path: Path) -> None:
    write_files(tmp_path, histories={customer_id(1): [(i, 9 - i) for i in range(6)]})
    seal_bundle(tmp_path, FACTS)
    assert FACTS["max_history"] == 5
    assert verify_bundle(tmp_path).n_customers == 1


def test_days_may_fall_from_one_customer_to_the_next(tmp_path: Path) -> None:
    write_files(tmp_path, histories={customer_id(n): [(n, 30), (n, 1)] for n in range(6)})
    seal_bundle(tmp_path, FACTS)
    assert verify_bundle(tmp_path).n_customers == 6
