"""Where the bundle to serve comes from: a folder, or a registry (a folder or S3) that names its champion."""

import asyncio
import hashlib
import json
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from inference.errors import BundleError, FetchFailed, ManifestInvalid
from inference.manifest import MANIFEST_NAME, SAFE_NAME

CHAMPION_NAME = "champion.json"
MAX_CHAMPION_BYTES = 1 << 16  # real ones have a few hundred bytes
FETCH_TIMEOUT_S = 900  # 120 MB over 1 Mbit/s


@dataclass(frozen=True, slots=True)
class Champion:
    """What the registry says now; `fingerprint` changes whenever there is something new to try."""

    fingerprint: str
    folder: Path | None = None
    """None when the fingerprint was known already, or when the bundle was refused."""
    is_verified: bool = False
    refusal: BundleError | None = None
    warning: str | None = None


class Source(Protocol):
    async def find(self, known: Collection[str]) -> Champion:
        """Look up the champion; `known` holds fingerprints that need not be fetched again.

        Raises FetchFailed when the registry cannot be read now, BundleError when it says what cannot be.
        """
        ...


def open_source(uri: str, cache: Path) -> Source:
    """Tell by its form what MODEL_URI names."""
    if uri.startswith("s3://"):
        return S3Registry(uri.rstrip("/"), cache)
    return Folder(Path(uri.removeprefix("file://")))


def parse_champion(text: bytes, where: str) -> str:
    """Give the version that champion.json names, which is safe as a part of a path."""
    mend = "promote a bundle again: python -m pipelines.registry promote"
    try:
        document = json.loads(text)
        version = document["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"not a champion ({type(error).__name__}: {error})"
        raise ManifestInvalid(what, where=where, mend=mend) from error
    if not isinstance(version, str) or not SAFE_NAME.fullmatch(version):
        raise ManifestInvalid(f"version {version!r} is not a plain name", where=where, mend=mend)
    return version


class Folder:
    """A bundle folder, or a registry folder; told apart anew each time, since either may appear later."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def find(self, known: Collection[str]) -> Champion:
        """Read champion.json, or take the folder itself when it holds a manifest."""
        if (self._path / MANIFEST_NAME).is_file():
            return self._champion(self._path, b"", known)
        where = self._path / CHAMPION_NAME
        try:
            with where.open("rb") as file:
                text = file.read(MAX_CHAMPION_BYTES)
        except OSError as error:
            raise FetchFailed(
                f"{where}: no champion ({error.strerror}); MODEL_URI names a bundle folder or a lake's registry, "
                "and a first run of the pipeline makes a champion"
            ) from error
        version = parse_champion(text, str(where))
        return self._champion(self._path / "bundles" / version, text, known)

    def _champion(self, folder: Path, text: bytes, known: Collection[str]) -> Champion:
        try:
            sealed = (folder / MANIFEST_NAME).stat()
            state = f"{sealed.st_mtime_ns}:{sealed.st_size}"
        except OSError:
            state = "unsealed"
        fingerprint = f"{folder.name}@{hashlib.sha256(text + state.encode()).hexdigest()[:16]}"
        return Champion(fingerprint, None if fingerprint in known else folder)


class S3Registry:
    """A registry in S3, asked by a short-lived process, so that this one never carries boto3 (25 MiB)."""

    def __init__(self, uri: str, cache: Path) -> None:
        self._uri = uri
        self._cache = cache

    async def find(self, known: Collection[str]) -> Champion:
        """Run inference.fetch once and read the one line that it prints."""
        command = [sys.executable, "-m", "inference.fetch", "--registry", self._uri, "--cache", str(self._cache)]
        command += [part for fingerprint in sorted(known) for part in ("--known", fingerprint)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), FETCH_TIMEOUT_S)
        except TimeoutError as error:
            raise FetchFailed(f"{self._uri}: no bundle after {FETCH_TIMEOUT_S} s; see to the network") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            found: dict[str, Any] = json.loads(output)
        except ValueError as error:
            last = errors.decode(errors="replace").strip().splitlines()[-1:]
            raise FetchFailed(
                f"{self._uri}: the fetch ended with {process.returncode} {''.join(last)[:500]}"
            ) from error
        if "failed" in found:
            raise FetchFailed(found["failed"])
        refusal = BundleError(**found["refused"]) if "refused" in found else None
        folder = Path(found["folder"]) if "folder" in found else None
        return Champion(found["fingerprint"], folder, is_verified=True, refusal=refusal, warning=found.get("warning"))
