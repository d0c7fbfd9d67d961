"""Follow the champion: try what is new, swap one reference when it is good, keep the old model when it is not."""

import asyncio
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from inference.bundle import load_bundle, verify_bundle
from inference.champion import Champion, Source
from inference.engine import Engine, Request
from inference.errors import BundleError, FetchFailed, RequestRefused
from inference.manifest import Manifest
from inference.telemetry import Metrics, get_logger

# A refused champion is tried again so many polls later (ten minutes, as set by default): a file that was missing may
# have come without the manifest or the pointer changing, and a sound bundle may have been refused for a bad read.
RETRY_POLLS = 20

log = get_logger()


@dataclass(frozen=True, slots=True)
class Live:
    """A model that answers; requests under way keep theirs when another takes over."""

    engine: Engine
    manifest: Manifest
    fingerprint: str
    loaded_at: dt.datetime


class Swap:
    """Holds the model of the moment; one task calls follow(), everybody else reads."""

    def __init__(
        self,
        source: Source,
        metrics: Metrics,
        *,
        poll_seconds: float,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.current: Live | None = None
        self.reason = "the first model is being loaded"
        """Why there is no model, or why the newest champion is not the one that answers; empty when all is well."""
        self._source = source
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._now = now
        self._n_checks = 0
        self._refused: dict[str, int] = {}
        """fingerprint → the check at which it is tried again"""

    def live(self) -> Live:
        """Give the model that answers now; RequestRefused with 503 before there is one."""
        if self.current is None:
            raise RequestRefused(503, "no_model", f"no model is loaded: {self.reason}")
        return self.current

    async def follow(self) -> None:
        """Check for a new champion for ever."""
        while True:
            try:
                await self.check()
            except Exception as error:  # a fault in following must not end following
                self._say("champion_check_failed", f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._poll_seconds)

    async def check(self) -> None:
        """Look once; what was refused is tried again when it changes, and now and then in case it was mended."""
        live = self.current
        self._n_checks += 1
        self._refused = {refused: due for refused, due in self._refused.items() if due > self._n_checks}
        known = self._refused.keys() | ({live.fingerprint} if live else set())
        try:
            champion = await self._source.find(known)
        except FetchFailed as error:
            self._say("registry_unreachable", str(error))
            return
        except BundleError as error:
            self._refuse("", error)
            return
        if live is not None and champion.fingerprint == live.fingerprint:
            self._refused.clear()
            self.reason = ""
        elif champion.refusal is not None:
            self._refuse(champion.fingerprint, champion.refusal)
        elif champion.fingerprint not in self._refused:
            await self._try(champion)

    async def _try(self, champion: Champion) -> None:
        try:
            live = await asyncio.to_thread(self._load, champion)
        except BundleError as error:
            self._refuse(champion.fingerprint, error)
            return
        old, self.current = self.current, live
        self._refused.clear()
        self.reason = champion.warning or ""
        self._metrics.swapped(live.manifest)
        log.info(
            "model_swapped",
            model_version=live.manifest.version,
            previous=old.manifest.version if old else None,
            cutoff_date=live.manifest.cutoff_date.isoformat(),
            n_live=live.manifest.n_live,
            warning=champion.warning,
        )

    def _load(self, champion: Champion) -> Live:
        if champion.folder is None:
            raise AssertionError(f"no folder for the new champion {champion.fingerprint}")
        if not champion.is_verified:
            verify_bundle(champion.folder)
        engine = Engine(load_bundle(champion.folder))
        engine.certify()
        engine.recommend_batch([Request(top_k=12)] * 8)  # the first run of a batch allocates
        return Live(engine, engine.bundle.manifest, champion.fingerprint, self._now())

    def _refuse(self, fingerprint: str, error: BundleError) -> None:
        if fingerprint:
            self._refused[fingerprint] = self._n_checks + RETRY_POLLS
        if self._say("champion_refused", str(error)):
            self._metrics.refused()

    def _say(self, event: str, reason: str) -> bool:
        """Log a reason once, however often it is met; True when it is new."""
        if reason == self.reason:
            return False
        self.reason = reason
        log.error(event, reason=reason, answering=self.current.manifest.version if self.current else None)
        return True
