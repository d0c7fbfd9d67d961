"""The bundle contract: what training seals and the service verifies, loads and answers from.

A bundle is a folder of plain files, immutable once manifest.json is there:

    model.onnx            history_BL, age_days_BL, segment_B, extra_pool_P, penalty_N1, top_k_1
                          → article_index_BK, score_BK, contribution_BKG
    article_ids.npy       S10 [A], sorted; the position is the article_index
    is_live.npy           bool [A]; only these may be recommended by the graph
    customer_keys.npy     uint64 [C], sorted; see customer_key
    customer_offsets.npy  int64 [C+1]; customer c bought history_articles[offsets[c]:offsets[c+1]]
    history_articles.npy  int32 [H], article_index, oldest to newest; the graph reads the newest max_history
    history_days.npy      int32 [H], days since 1970-01-01
    customer_segments.npy uint8 [C]; 0 is an unknown customer
    live_articles.npy     int32 [N], ascending; the position of a live article in the graph's tables
    segment_retrieval.npy float32 [S, N], log popularity of each live article in each segment
    article_prices.npy    float32 [A], usual price in the shop's unit, nan when unknown
    index_groups.npy, garment_groups.npy, product_groups.npy
                          int16 [A], place in attributes.json's list of names; 0 is missing
    attributes.json       {"index_group": ["", "Ladieswear", …], …}
    articles.jsonl        one object per article in order: names, for pages and explanations
    article_offsets.npy   int64 [A+1], where each line of articles.jsonl begins, in bytes
    golden.json           requests with the answers that they had in training, replayed before serving
    manifest.json         written last

extra_pool_P are live positions that the whole batch is ranked on beside what its histories and segments bring (n_live
pads), penalty_N1 is 0 for a live position that may be answered and -1e9 for one that may not (its last entry, the pad,
always is); what is answered with a score below -5e8 is no answer. contribution_BKG says what each signal group
(`signals` in the manifest) added to the linear part of the score.

The graph gets histories right-aligned, padded on the left with n_articles and age 0, and must answer every top_k from
1 to min(n_live, max_top_k + max_history): best first, distinct, live articles only.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from inference.arrays import ARRAY_DTYPES, Array, check_arrays, day_number, open_array, open_arrays
from inference.errors import ArrayInvalid, BundleError, FileDamaged, GraphRefused, ManifestInvalid
from inference.manifest import MANIFEST_NAME, FileRecord, Manifest, parse_manifest, read_manifest
from inference.onnx_file import check_graph
from inference.pages import expect_random_reads

__all__ = [
    "ArrayInvalid",
    "Bundle",
    "BundleError",
    "FileDamaged",
    "FileRecord",
    "GraphRefused",
    "Manifest",
    "ManifestInvalid",
    "customer_key",
    "load_bundle",
    "parse_manifest",
    "read_manifest",
    "seal_bundle",
    "verify_bundle",
]

MODEL_NAME, ARTICLES_NAME, GOLDEN_NAME = "model.onnx", "articles.jsonl", "golden.json"
ATTRIBUTES_NAME = "attributes.json"
PARTIAL_NAME = f".{MANIFEST_NAME}.partial"  # what a killed seal_bundle may leave
REQUIRED_FILES = frozenset({MODEL_NAME, ARTICLES_NAME, GOLDEN_NAME, ATTRIBUTES_NAME, *ARRAY_DTYPES})
COPY_AGAIN = "copy the bundle again from the registry, or train again; never edit a sealed bundle"


def customer_key(customer_id: str) -> int:
    """Hash a customer_id to the 64 bits that a bundle keeps of it, so that no bundle lists customers.

    The first 8 bytes, big-endian, of blake2b with an 8-byte digest over the UTF-8 text. Two of 1.4 million customers
    share a key once in 20 million bundles; sealing refuses such a bundle.

    >>> hex(customer_key(""))
    '0xe4a6a0577479b2b4'
    """
    return int.from_bytes(hashlib.blake2b(customer_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle; the arrays are mapped from disk and cost memory only where they are read."""

    folder: Path
    manifest: Manifest
    article_ids: Array
    is_live: Array
    customer_keys: Array
    customer_offsets: Array
    history_articles: Array
    history_days: Array
    customer_segments: Array
    live_articles: Array
    segment_retrieval: Array
    article_prices: Array
    article_offsets: Array
    index_groups: Array
    garment_groups: Array
    product_groups: Array

    @property
    def model_path(self) -> Path:
        return self.folder / MODEL_NAME

    @property
    def as_of_day(self) -> int:
        """The day (since 1970-01-01) from which ages count: the first that the shipped model did not see."""
        return day_number(self.manifest.trained_through.toordinal()) + 1

    def customer_arrays(self) -> list[Array]:
        """Give what is large and read in one place by each request."""
        return [self.history_articles, self.history_days, self.customer_keys, self.customer_offsets]

    def read_golden(self) -> list[dict[str, Any]]:
        """Read golden.json: objects with `request` and the `recommendations` that it had in training."""
        path = self.folder / GOLDEN_NAME
        try:
            golden = json.loads(path.read_bytes())
            cases = [
                {"request": dict(case["request"]), "recommendations": list(case["recommendations"])} for case in golden
            ]
            if not cases or not all(case["recommendations"] for case in cases):
                raise ValueError("a request without recommendations proves nothing, nor does an empty list")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"not a list of requests with their recommendations ({type(error).__name__}: {error})"
            raise ManifestInvalid(what, where=str(path), mend="train and seal the bundle again") from error
        return cases


def seal_bundle(folder: Path, facts: Mapping[str, Any]) -> Manifest:
    """Hash every file in the folder, write manifest.json last, and verify the whole.

    `facts` holds the manifest's other fields: version, cutoff_date, trained_through, max_history and what else is
    known; n_articles, n_live and n_customers are counted here. The same files and facts give the same bytes.
    """
    unknown = sorted(set(facts) - set(Manifest.model_fields))
    where = str(folder / MANIFEST_NAME)
    if unknown:
        raise ManifestInvalid(f"facts {unknown} are no fields of a manifest", where=where, mend="correct their names")
    unsealed = {MANIFEST_NAME, PARTIAL_NAME}
    counted = {
        "n_articles": len(open_array(folder / "article_ids.npy")),
        "n_live": int(np.count_nonzero(open_array(folder / "is_live.npy"))),
        "n_customers": len(open_array(folder / "customer_keys.npy")),
        "files": {path.name: _record(path) for path in sorted(folder.iterdir()) if path.name not in unsealed},
    }
    try:
        manifest = Manifest.model_validate({**counted, **facts})
        text = manifest.to_json()
    except (ValidationError, ValueError) as error:
        raise ManifestInvalid(
            f"facts do not make a manifest ({error})", where=where, mend="correct the facts"
        ) from error
    partial = folder / PARTIAL_NAME
    partial.write_text(text, encoding="utf-8")
    try:
        parse_manifest(text.encode(), where=where)
        _check_contents(folder, manifest)
        partial.replace(folder / MANIFEST_NAME)
    finally:
        partial.unlink(missing_ok=True)
    return manifest


def verify_bundle(folder: Path) -> Manifest:
    """Check everything that can be checked without running the graph; BundleError says the first fault.

    Manifest, format version and parity certificate; presence, place, size and sha256 of every file; types, shapes and
    consistency of the arrays; inputs, outputs and operators of the graph.
    """
    manifest = read_manifest(folder)
    if manifest.parity is None:
        raise ManifestInvalid(
            "no parity certificate: nobody has held the served graph against the trained one",
            where=str(folder / MANIFEST_NAME),
            mend="train again; only training can certify a bundle",
        )
    for name, record in sorted(manifest.files.items()):
        _check_file(folder / name, record)
    _check_contents(folder, manifest)
    return manifest


def load_bundle(folder: Path) -> Bundle:
    """Map a bundle that was verified before."""
    bundle = Bundle(folder=folder, manifest=read_manifest(folder), **open_arrays(folder))
    expect_random_reads([bundle.history_articles, bundle.history_days])
    return bundle


def _check_contents(folder: Path, manifest: Manifest) -> None:
    missing = sorted(REQUIRED_FILES - set(manifest.files))
    if missing:
        where = str(folder / MANIFEST_NAME)
        raise ManifestInvalid(f"files does not name {', '.join(missing)}", where=where, mend=COPY_AGAIN)
    check_arrays(folder, open_arrays(folder), manifest, (folder / ARTICLES_NAME).stat().st_size)
    check_graph(folder / MODEL_NAME, set(manifest.files))


def _check_file(path: Path, record: FileRecord) -> None:
    if path.resolve().parent != path.parent.resolve():
        raise FileDamaged("a link out of the folder", where=str(path), mend="do not serve this bundle")
    if not path.is_file():
        raise FileDamaged("the file is missing", where=str(path), mend=COPY_AGAIN)
    size_bytes = path.stat().st_size
    if size_bytes != record.size_bytes:
        what = f"{size_bytes:,} bytes, the manifest says {record.size_bytes:,}"
        raise FileDamaged(what, where=str(path), mend=COPY_AGAIN)
    sha256 = _sha256(path)
    if sha256 != record.sha256:
        what = f"sha256 {sha256[:12]}…, the manifest says {record.sha256[:12]}…"
        raise FileDamaged(what, where=str(path), mend=COPY_AGAIN)


def _record(path: Path) -> FileRecord:
    return FileRecord(sha256=_sha256(path), size_bytes=path.stat().st_size)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
