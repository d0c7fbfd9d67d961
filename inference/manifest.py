"""The manifest of a bundle: what it holds, from what it was made, and how good it was found."""

import datetime as dt
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.errors import ManifestInvalid

FORMAT_VERSION: Literal[2] = 2
MANIFEST_NAME = "manifest.json"
MIN_PARITY_OVERLAP = 0.995  # share of the first 12 articles that the served graph and torch must agree on
MAX_SCORE_GAP = 0.1  # scores are of order 1; rounding makes about 1e-6
MAX_MANIFEST_BYTES = 1 << 20  # real ones have a few KiB; a hostile one must not fill the memory
MEND = "train and seal the bundle again, or copy it again from the registry"

# One path segment that no file system and no URL reads as anything else.
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class FileRecord(BaseModel):
    """One file of the bundle as it was when it was sealed."""

    model_config = ConfigDict(frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class Parity(BaseModel):
    """The certificate: training asked the serving engine what it asked torch, and compared the answers."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    n_customers: int = Field(ge=1)
    top_12_overlap: float = Field(ge=MIN_PARITY_OVERLAP, le=1.0)
    largest_score_gap: float = Field(ge=0.0, le=MAX_SCORE_GAP)


class Manifest(BaseModel):
    """Everything about a bundle that is not an array or a graph.

    Unknown fields are ignored when reading, so that a newer training may say more.
    """

    model_config = ConfigDict(frozen=True)

    format_version: Literal[2] = FORMAT_VERSION
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    cutoff_date: dt.date
    """First day that the evaluated model did not see."""
    trained_through: dt.date
    """Last day that the shipped model saw; ages count from the day after."""
    n_articles: int = Field(ge=1, le=50_000_000)
    n_live: int = Field(ge=1)
    n_customers: int = Field(ge=0, le=2_000_000_000)
    max_history: int = Field(ge=1, le=10_000)
    max_top_k: int = Field(default=100, ge=1, le=10_000)
    files: dict[str, FileRecord]
    metrics: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float]] = {}
    """Metric → its 95 % bootstrap interval over customers."""
    baselines: dict[str, dict[str, float | None]] = {}
    parity: Parity | None = None
    """None only in a draft: what has no certificate is not served."""
    signals: list[str] = []
    """Names of the signal groups in the graph's contribution_BKG, in order."""
    parent: str | None = None
    git_commit: str | None = None
    source: Any = None
    inputs: dict[str, Any] = {}
    parameters: dict[str, Any] = {}

    def to_json(self) -> str:
        """Write sorted and indented, the same manifest always giving the same bytes."""
        document = self.model_dump(mode="json")
        return json.dumps(document, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def has_manifest(folder: Path) -> bool:
    """Say whether a folder is a bundle; False too when it may not be looked at, which reading it will explain."""
    try:
        return (folder / MANIFEST_NAME).is_file()
    except OSError:  # is_file() itself forgives only a path that leads nowhere
        return False


def read_manifest(folder: Path) -> Manifest:
    """Read and check manifest.json alone; the files that it names are not looked at."""
    path = folder / MANIFEST_NAME
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_MANIFEST_BYTES:
            raise ManifestInvalid(f"{size_bytes:,} bytes, at most {MAX_MANIFEST_BYTES:,}", where=str(path), mend=MEND)
        text = path.read_bytes()
    except OSError as error:
        raise ManifestInvalid(
            f"cannot be read ({error.strerror})", where=str(path), mend="a bundle folder holds manifest.json; check it"
        ) from error
    return parse_manifest(text, where=str(path))


def parse_manifest(text: bytes, *, where: str) -> Manifest:
    """Check the bytes of a manifest; `where` names them in the message."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"not JSON ({error})", where=where, mend=MEND) from error
    if not isinstance(document, dict):
        raise ManifestInvalid(f"a JSON {type(document).__name__}, expected an object", where=where, mend=MEND)
    found = document.get("format_version")
    if found != FORMAT_VERSION or isinstance(found, bool):
        raise ManifestInvalid(
            f"format_version {found!r}, this server reads {FORMAT_VERSION}",
            where=where,
            mend="serve it with the release that made it, or train again",
        )
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:10])
        raise ManifestInvalid(faults, where=where, mend=MEND) from error
    for name in manifest.files:
        if not SAFE_NAME.fullmatch(name):
            raise ManifestInvalid(
                f"files names {name!r}, which is not a plain file name", where=where, mend="do not serve this bundle"
            )
    if manifest.n_live > manifest.n_articles:
        raise ManifestInvalid(
            f"n_live {manifest.n_live} exceeds n_articles {manifest.n_articles}", where=where, mend=MEND
        )
    return manifest


def check_claim(claim: bytes, version: str, text: bytes, *, where: str) -> None:
    """Hold the bytes of a manifest against contents/{version}.json of its registry, which bound the version to them.

    Raises ManifestInvalid for a manifest that was rewritten since, or that is another version's; `where` names the
    claim.
    """
    try:
        claimed = json.loads(claim)
        files, sha256 = dict(claimed["bundle"]), claimed.get("manifest")  # registries of before have no sha256
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestInvalid(f"damaged ({error})", where=where, mend="restore it from a copy") from error
    manifest = parse_manifest(text, where=where)
    is_same = files == {name: record.sha256 for name, record in manifest.files.items()}
    if sha256 is not None:
        is_same = is_same and sha256 == hashlib.sha256(text).hexdigest()
    if manifest.version != version or not is_same:
        raise ManifestInvalid(
            f"the manifest of bundle {version} is not the one that was registered: its version, its hash or those of "
            "its files are not what stands here",
            where=where,
            mend="restore the manifest from a copy, or train again",
        )
