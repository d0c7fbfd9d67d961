"""Where the bundle to serve comes from: a folder, or a registry (a folder or S3) that names its champion."""

import asyncio
import hashlib
import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from inference.cache import CHAMPION_NAME, last_champion, note_champion, registry_folder, rolled_back_champions
from inference.errors import BundleError, FetchFailed, ManifestInvalid
from inference.manifest import MANIFEST_NAME, SAFE_NAME
from inference.origin import FolderOrigin
from inference.signed_poll import poll

MAX_CHAMPION_BYTES = 1 << 16  # real ones have a few hundred bytes
FETCH_TIMEOUT_S = 900  # a bundle of all of H&M, 300 MB, over 3 Mbit/s


@dataclass(frozen=True, slots=True)
class Champion:
    """What the registry says now; `fingerprint` changes whenever there is something new to try."""

    fingerprint: str
    folder: Path | None = None
    """Verified and ready to load; None when the fingerprint was known already, or when the bundle was refused."""
    refusal: BundleError | None = None
    warning: str | None = None
    is_remembered: bool = False
    """From the cache: the registry has not been asked yet."""


class Source(Protocol):
    async def find(self, known: Collection[str]) -> Champion:
        """Look up the champion; `known` holds fingerprints that need not be fetched again.

        Raises FetchFailed when the registry cannot be read now, BundleError when it says what cannot be.
        """
        ...

    def note_good(self, fingerprint: str, folder: Path, rolled_back: Mapping[str, str]) -> None:
        """Remember a bundle that answers, and which failed in use; OSError when that cannot be written down."""
        ...

    def rolled_back(self) -> dict[str, str]:
        """Give what failed in use, now or in an earlier run: fingerprint → why."""
        ...

    def last_good(self) -> Champion | None:
        """Give the bundle that answered last, now or in an earlier run, if it is still there."""
        ...


def open_source(uri: str, cache: Path) -> Source:
    """Tell by its form what MODEL_URI names."""
    uri = uri.rstrip("/") if uri.startswith("s3://") else uri
    return S3Registry(uri, cache) if uri.startswith("s3://") else Folder(uri, cache)


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


def fingerprint_of(champion: bytes, state: str) -> str:
    """Stand for a champion.json and the state of what it names."""
    return hashlib.sha256(champion + b"\0" + state.encode()).hexdigest()[:16]


class _Cached:
    """What is remembered of a registry, whatever kind it is."""

    def __init__(self, uri: str, cache: Path) -> None:
        self._uri = uri
        self._cache = cache

    def note_good(self, fingerprint: str, folder: Path, rolled_back: Mapping[str, str]) -> None:
        """Remember a bundle that answers, and which failed in use; OSError when that cannot be written down."""
        note_champion(registry_folder(self._cache, self._uri), fingerprint, folder, rolled_back)

    def rolled_back(self) -> dict[str, str]:
        """Give what failed in use, now or in an earlier run: fingerprint → why."""
        return rolled_back_champions(registry_folder(self._cache, self._uri))

    def last_good(self) -> Champion | None:
        """Give the bundle that answered last, now or in an earlier run, if it is still there."""
        remembered = last_champion(registry_folder(self._cache, self._uri))
        return Champion(*remembered, is_remembered=True) if remembered is not None else None


class Folder(_Cached):
    """A bundle folder, or a registry folder; asked in place, copied by a short-lived process when it is new."""

    def __init__(self, uri: str, cache: Path) -> None:
        super().__init__(uri, cache)
        self._origin = FolderOrigin(Path(uri.removeprefix("file://")))
        self._is_first = True

    async def find(self, known: Collection[str]) -> Champion:
        """Look at the folder; when that fails at first, give the cached champion, and the reason the next time."""
        is_first, self._is_first = self._is_first, False
        if not is_first:
            return await self._look(known)
        remembered = self.last_good()
        try:
            champion = await self._look(known)
        except (FetchFailed, BundleError):
            if remembered is None:
                raise
        else:
            if champion.refusal is None or remembered is None:
                return champion
        return remembered

    async def _look(self, known: Collection[str]) -> Champion:
        """Read champion.json and look at the manifest."""
        prefix, text = "", b""
        if not self._origin.is_bundle():
            text = self._origin.read(CHAMPION_NAME, MAX_CHAMPION_BYTES)
            prefix = f"bundles/{parse_champion(text, self._origin.where(CHAMPION_NAME))}/"
        fingerprint = fingerprint_of(text, self._origin.state(prefix + MANIFEST_NAME))
        if fingerprint in known:
            return Champion(fingerprint)
        remembered = last_champion(registry_folder(self._cache, self._uri))
        if remembered is not None and remembered[0] == fingerprint:
            return Champion(*remembered)
        champion, _ = await _run_fetch(self._uri, self._cache, known)
        return champion


class S3Registry(_Cached):
    """A registry in S3, fetched by a short-lived process and polled through a URL that it signed.

    boto3 costs 25 MiB and half a second of processor time each time it starts, so it is started only when there is
    something new, or when the URL has ended; between these a poll is one GET with If-None-Match.
    """

    def __init__(self, uri: str, cache: Path) -> None:
        super().__init__(uri, cache)
        self._found: Champion | None = None
        self._poll_url = self._etag = ""
        self._is_first = True

    async def find(self, known: Collection[str]) -> Champion:
        """Give the cached champion at first, then what S3 says."""
        if self._is_first:
            self._is_first = False
            remembered = self.last_good()
            if remembered is not None:
                return remembered
        if self._found is not None and self._found.fingerprint in known and await self._is_unchanged():
            return Champion(self._found.fingerprint)
        self._poll_url = ""
        self._found, facts = await _run_fetch(self._uri, self._cache, known)
        self._poll_url, self._etag = facts.get("poll_url", ""), facts.get("etag", "")
        return self._found

    async def _is_unchanged(self) -> bool:
        if not self._poll_url:
            return False
        # Anything but "not modified" is for the fetch process to find out and to explain.
        polled = await asyncio.to_thread(poll, self._poll_url, self._etag)
        return polled.status == 304


async def _run_fetch(uri: str, cache: Path, known: Collection[str]) -> tuple[Champion, dict[str, Any]]:
    """Run inference.fetch once and read the one line that it prints."""
    command = [sys.executable, "-m", "inference.fetch", "--uri", uri, "--cache", str(cache)]
    command += [part for fingerprint in sorted(known) for part in ("--known", fingerprint)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), FETCH_TIMEOUT_S)
    except TimeoutError as error:
        raise FetchFailed(f"{uri}: no bundle after {FETCH_TIMEOUT_S} s; see to the network") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        found: dict[str, Any] = json.loads(output)
    except ValueError as error:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise FetchFailed(f"{uri}: the fetch ended with {process.returncode} {''.join(last)[:500]}") from error
    if "failed" in found:
        raise FetchFailed(found["failed"])
    warning = None
    if found.get("in_place"):
        why = "no room for a copy, or not writable"
        warning = f"{cache}: {why}, so {found['folder']} is served in place and must not be changed"
    champion = Champion(
        fingerprint=found["fingerprint"],
        folder=Path(found["folder"]) if "folder" in found else None,
        refusal=BundleError(**found["refused"]) if "refused" in found else None,
        warning=warning,
    )
    return champion, found
