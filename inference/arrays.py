"""Open the arrays of a bundle in place, and refuse those that contradict each other.

C customers, A articles, N live ones, S segments, H purchases kept in histories. Checks walk in chunks, so that a
catalogue of any size is checked in a few MiB.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.errors import ArrayInvalid
from inference.manifest import Manifest

ARRAY_DTYPES = {
    "article_ids.npy": np.dtype("S10"),
    "is_live.npy": np.dtype(np.bool_),
    "customer_keys.npy": np.dtype(np.uint64),
    "customer_offsets.npy": np.dtype(np.int64),
    "history_articles.npy": np.dtype(np.int32),
    "history_days.npy": np.dtype(np.int32),
    "customer_segments.npy": np.dtype(np.uint8),
    "live_articles.npy": np.dtype(np.int32),
    "segment_retrieval.npy": np.dtype(np.float32),
    "article_prices.npy": np.dtype(np.float32),
    "article_offsets.npy": np.dtype(np.int64),
    "index_groups.npy": np.dtype(np.int16),
    "garment_groups.npy": np.dtype(np.int16),
    "product_groups.npy": np.dtype(np.int16),
}
MATRICES = frozenset({"segment_retrieval.npy"})
CHUNK_ROWS = 1 << 18
EPOCH_ORDINAL = 719_163  # date(1970, 1, 1).toordinal()
MEND = "train and seal the bundle again"

Array = npt.NDArray[Any]


def open_array(path: Path) -> Array:
    """Map one .npy file read-only; nothing in it is ever unpickled."""
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise ArrayInvalid("the file is missing", where=str(path), mend=MEND) from error
    except (ValueError, OSError, OverflowError, TypeError, SyntaxError, MemoryError) as error:
        raise ArrayInvalid(f"not a readable .npy file ({error})", where=str(path), mend=MEND) from error
    expected = ARRAY_DTYPES[path.name]
    if mapped.dtype != expected:
        raise ArrayInvalid(f"holds {mapped.dtype}, expected {expected}", where=str(path), mend=MEND)
    n_dimensions = 2 if path.name in MATRICES else 1
    if mapped.ndim != n_dimensions:
        expected_shape = "two dimensions" if n_dimensions == 2 else "one dimension"
        raise ArrayInvalid(f"has the shape {mapped.shape}, expected {expected_shape}", where=str(path), mend=MEND)
    return mapped.view(np.ndarray)  # without memmap's own, slow slicing


def open_arrays(folder: Path) -> dict[str, Array]:
    """Map every array of a bundle, by its name without .npy."""
    return {Path(name).stem: open_array(folder / name) for name in ARRAY_DTYPES}


def day_number(ordinal: int) -> int:
    """Count days since 1970-01-01, from date.toordinal()."""
    return ordinal - EPOCH_ORDINAL


def check_arrays(folder: Path, arrays: dict[str, Array], manifest: Manifest, names_bytes: int) -> None:
    """Check every length, order and reference between the arrays, the manifest and a names file of that size."""

    def require(claim: bool | np.bool_, name: str, what: str) -> None:
        if not claim:
            raise ArrayInvalid(what, where=str(folder / f"{name}.npy"), mend=MEND)

    offsets, articles, days = arrays["customer_offsets"], arrays["history_articles"], arrays["history_days"]
    n_history = len(articles)
    lengths = {
        "article_ids": manifest.n_articles,
        "is_live": manifest.n_articles,
        "customer_keys": manifest.n_customers,
        "customer_offsets": manifest.n_customers + 1,
        "customer_segments": manifest.n_customers,
        "history_days": n_history,
        "article_prices": manifest.n_articles,
        "article_offsets": manifest.n_articles + 1,
        "index_groups": manifest.n_articles,
        "garment_groups": manifest.n_articles,
        "product_groups": manifest.n_articles,
    }
    for name, length in lengths.items():
        require(len(arrays[name]) == length, name, f"has {len(arrays[name]):,} entries, expected {length:,}")

    n_live = int(np.count_nonzero(arrays["is_live"]))
    require(n_live == manifest.n_live, "is_live", f"marks {n_live:,} articles, the manifest says {manifest.n_live:,}")
    require(
        np.array_equal(arrays["live_articles"], np.flatnonzero(arrays["is_live"])),
        "live_articles",
        "does not list the articles that is_live marks",
    )
    retrieval_SN = arrays["segment_retrieval"]
    n_segments = int(arrays["customer_segments"].max(initial=0)) + 1
    what = (
        f"has the shape {retrieval_SN.shape}, expected at least {n_segments} segments by {manifest.n_live:,} articles"
    )
    require(retrieval_SN.shape[0] >= n_segments and retrieval_SN.shape[1] == manifest.n_live, "segment_retrieval", what)
    require(bool(np.isfinite(retrieval_SN).all()), "segment_retrieval", "holds a value that is not finite")
    starts = arrays["article_offsets"]
    require(starts[0] == 0 and bool((np.diff(starts) > 0).all()), "article_offsets", "does not grow from 0")
    what = f"ends at {starts[-1]:,}, articles.jsonl at {names_bytes:,} bytes"
    require(starts[-1] == names_bytes, "article_offsets", what)

    for name, entries in (("article_ids", "articles"), ("customer_keys", "customers")):
        ordered = all(bool((chunk[1:] > chunk[:-1]).all()) for chunk in _overlapping(arrays[name]))
        require(ordered, name, f"is not sorted, or names two {entries} alike")
    lengths_ok = all(bool((np.char.str_len(chunk) == 10).all()) for chunk in _chunks(arrays["article_ids"]))
    require(lengths_ok, "article_ids", "holds an article_id that is not 10 characters long")

    require(offsets[0] == 0, "customer_offsets", f"starts at {offsets[0]}, expected 0")
    require(offsets[-1] == n_history, "customer_offsets", f"ends at {offsets[-1]:,}, the histories at {n_history:,}")
    for chunk in _overlapping(offsets):
        counts = np.diff(chunk)
        require((counts >= 0).all(), "customer_offsets", "goes backwards")

    for chunk in _chunks(articles):
        outside = (chunk < 0) | (chunk >= manifest.n_articles)
        require(not outside.any(), "history_articles", f"points outside the {manifest.n_articles:,} articles")
    last_day = day_number(manifest.trained_through.toordinal())
    for start, chunk in enumerate(_overlapping(days)):
        newest = int(chunk.max(initial=last_day))
        require(newest <= last_day, "history_days", f"holds day {newest}, after trained_through (day {last_day})")
        # A customer's days may not go back; only where the next customer starts they may.
        backwards = np.flatnonzero(chunk[1:] < chunk[:-1]) + 1 + start * CHUNK_ROWS
        at = np.searchsorted(offsets, backwards)
        require(bool((offsets[at] == backwards).all()), "history_days", "is not oldest to newest for a customer")


def _chunks(array: Array) -> Iterator[Array]:
    for start in range(0, len(array), CHUNK_ROWS):
        yield array[start : start + CHUNK_ROWS]


def _overlapping(array: Array) -> Iterator[Array]:
    """Yield chunks that share one entry with the next, so that every pair of neighbours is seen once."""
    for start in range(0, len(array), CHUNK_ROWS):
        yield array[start : start + CHUNK_ROWS + 1]
