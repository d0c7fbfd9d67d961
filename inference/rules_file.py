"""Follow the rules file: read it when it changes, keep the last good one when it breaks.

The last good one is kept in MODEL_CACHE too, for a restart while the file is broken or gone.
"""

import asyncio
import datetime as dt
import json
import os
import stat
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from inference.allowed import fit_rules
from inference.cache import registry_folder
from inference.engine import Engine
from inference.errors import FetchFailed
from inference.manifest import has_manifest
from inference.rules import MAX_RULES_BYTES, RulesInvalid, RulesVersion, parse_rules
from inference.signed_poll import poll
from inference.telemetry import get_logger

RULES_NAME = "rules.json"
FETCH_TIMEOUT_S = 60

log = get_logger()


class RulesSource(Protocol):
    async def read(self, known: str) -> tuple[bytes | None, str]:
        """Give the file and what marks this state of it; None when it is as `known` marks, or when there is none.

        The mark is "" when there is no file. Raises FetchFailed when that cannot be told now.
        """
        ...


class RulesFile:
    """A file on disk, told apart by its time of change, size and inode."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def read(self, known: str) -> tuple[bytes | None, str]:
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode):  # reading a pipe would never end
                raise FetchFailed(f"{self.path}: not a regular file")
            mark = f"{found.st_mtime_ns}:{found.st_size}:{found.st_ino}"
            if mark == known:
                return None, mark
            with self.path.open("rb") as file:
                return file.read(MAX_RULES_BYTES + 1), mark
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            raise FetchFailed(f"{self.path}: {error.strerror}") from error


class RulesObject:
    """An object in S3, told apart by its ETag.

    A short-lived process reads it first and signs a URL, through which this one then polls without boto3, as it does
    for champions.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._poll_url = ""

    async def read(self, known: str) -> tuple[bytes | None, str]:
        if self._poll_url:
            polled = await asyncio.to_thread(poll, self._poll_url, known, MAX_RULES_BYTES)
            if polled.status in (200, 304, 404):
                is_new, is_there = polled.status == 200, polled.status != 404
                return (polled.body, polled.etag) if is_new else (None, known if is_there else "")
        self._poll_url = ""  # it has ended, or S3 is gone: the process finds out and explains
        return await self._fetch(known)

    async def _fetch(self, known: str) -> tuple[bytes | None, str]:
        command = [sys.executable, "-m", "inference.fetch_rules", "--uri", self._uri, "--known", known]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), FETCH_TIMEOUT_S)
        except TimeoutError as error:
            raise FetchFailed(f"{self._uri}: no answer after {FETCH_TIMEOUT_S} s; see to the network") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        head, _, text = output.partition(b"\n")
        try:
            found = json.loads(head)
        except ValueError as error:
            raise FetchFailed(f"{self._uri}: the fetch ended with {process.returncode}") from error
        if "failed" in found:
            raise FetchFailed(found["failed"])
        self._poll_url = found["poll_url"]
        return (text if found["is_new"] else None), found["etag"]


def open_rules(uri: str | None, model_uri: str) -> RulesSource | None:
    """Tell where the rules are: RULES_URI, or rules.json in a registry's folder or beside a bundle's.

    A registry in S3 is asked for rules only when RULES_URI names them: each look costs a process.
    """
    if uri is None:
        if model_uri.startswith("s3://"):
            return None
        folder = Path(model_uri.removeprefix("file://"))
        return RulesFile((folder.parent if has_manifest(folder) else folder) / RULES_NAME)
    return RulesObject(uri) if uri.startswith("s3://") else RulesFile(Path(uri.removeprefix("file://")))


def kept_rules(cache: Path, uri: str | None, model_uri: str) -> Path:
    """Tell where the last good rules are kept: by where they are read from, so that no server obeys another's."""
    return registry_folder(cache, uri or model_uri) / RULES_NAME


class RulesBook:
    """The rules of the moment, and the engines that obey them.

    `kept` is where the last good file is written, for a restart without it.
    `refused` is told of each file that is not taken, `today` gives the day in UTC, for pins that begin and end.
    """

    def __init__(
        self,
        source: RulesSource | None,
        *,
        kept: Path | None = None,
        refused: Callable[[], None] = lambda: None,
        today: Callable[[], dt.date] = lambda: dt.datetime.now(dt.UTC).date(),
    ) -> None:
        self.current = RulesVersion()
        self.reason = ""
        """Why the newest file is not the one that is obeyed; empty when it is."""
        self._fault = ""
        """What is wrong with the file that was read last."""
        self._source = source
        self._kept = self._kept_unread = kept
        self._refused = refused
        self._today = today
        self._obeyed_on: dt.date | None = None
        self._mark = ""
        # An engine that a swap lets go is forgotten here by itself.
        self._engines: weakref.WeakSet[Engine] = weakref.WeakSet()

    def prepare(self, engine: Engine) -> None:
        """Let an engine obey, from before its first answer on; called from the thread that loads it."""
        self._engines.add(engine)
        rules = None
        while rules is not self.current:  # which may change meanwhile
            rules = self.current
            engine.obey(rules, today=self._today(), is_strict=False)
        if n_unknown := self.n_unknown():
            log.warning("rules_name_unknown_articles", n_unknown=n_unknown, rules_version=self.current.version)

    def n_unknown(self) -> int | None:
        """Count the article_ids of the rules that no model knows; None when there are no rules or no model yet."""
        counts = [engine.rules.n_unknown for engine in list(self._engines) if engine.rules is not None]
        return min(counts, default=None)

    async def follow(self, poll_seconds: float) -> None:
        """Look for changed rules for ever."""
        while True:
            await self.try_check()
            await asyncio.sleep(poll_seconds)

    async def try_check(self) -> None:
        """Look once; a fault of ours is reported and must not end following."""
        try:
            await self.check()
        except Exception as error:
            self._say("rules_check_failed", f"{type(error).__name__}: {error}")

    async def check(self) -> None:
        """Look once."""
        if self._source is None:
            return
        if self.current.rules.pins and self._obeyed_on not in (None, self._today()):
            await asyncio.to_thread(self._obey, self.current)
        try:
            text, mark = await self._source.read(self._mark)
        except FetchFailed as error:
            self._take_kept()
            self._say("rules_unreachable", str(error))
            return
        if text is None:
            # A mount that is gone must not put blocked articles back on show.
            if not mark and (self._mark or self._take_kept()):
                self._say("rules_gone", "the rules file is gone; its last rules stay. To lift them, write {}")
            if mark:  # the file is as it was read, whatever was between
                self.reason = self._fault
            return
        self._mark = mark
        try:
            # Beside the answers: 300,000 article_ids take a good part of a second.
            rules = await asyncio.to_thread(parse_rules, text)
            await asyncio.to_thread(self._require_fit, rules)
        except RulesInvalid as error:
            self._take_kept()
            self._fault = str(error)
            self._say("rules_refused", self._fault)
            self._refused()
            return
        self.current, self.reason, self._fault = rules, "", ""
        await asyncio.to_thread(self._obey, rules)
        log.info("rules_read", rules_version=rules.version, **_sizes(rules), n_unknown=self.n_unknown())
        self._keep(text)

    def _keep(self, text: bytes) -> None:
        """Write the good file down; without room for it the rules are obeyed all the same."""
        if self._kept is None:
            return
        partial = self._kept.with_name(f".{RULES_NAME}-{os.getpid()}")
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(text)
            partial.replace(self._kept)
        except OSError as error:
            log.warning("rules_not_kept", reason=f"{self._kept}: {error.strerror}; a restart has only the file itself")

    def _take_kept(self) -> bool:
        """Obey the last good rules of an earlier run, once, when this one has read none; False when there are none."""
        kept, self._kept_unread = self._kept_unread, None
        if kept is None or self.current.version:
            return False
        try:
            rules = parse_rules(kept.read_bytes())
        except (OSError, RulesInvalid):
            return False
        self.current = rules
        self._obey(rules)
        log.warning("rules_kept", rules_version=rules.version, **_sizes(rules))
        return bool(rules)

    def _require_fit(self, rules: RulesVersion) -> None:
        """Raise RulesInvalid when no engine knows all of the groups that the rules name."""
        faults = []
        for engine in list(self._engines):
            try:
                fit_rules(rules, engine.bundle, engine.attributes, today=self._today(), is_strict=True)
            except RulesInvalid as fault:
                faults.append(fault)
            else:
                return
        if faults:
            raise faults[0]

    def _obey(self, rules: RulesVersion) -> None:
        self._obeyed_on = self._today()
        for engine in list(self._engines):
            engine.obey(rules, today=self._obeyed_on, is_strict=False)

    def _say(self, event: str, reason: str) -> None:
        if reason != self.reason:
            self.reason = reason
            log.error(event, reason=reason, obeying=self.current.version or None)


def _sizes(rules: RulesVersion) -> dict[str, int]:
    found = rules.rules
    return {
        "n_out_of_stock": len(found.out_of_stock),
        "n_blocked": len(found.blocked),
        "n_pins": len(found.pins),
        "n_caps": len(found.caps),
        "n_repurchase": len(found.repurchase),
    }
