"""Follow the champion: try what is new, swap one reference when it is good, go back when it fails in use."""

import asyncio
import datetime as dt
import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, Protocol

from inference.champion import Champion, Source
from inference.engine import Engine
from inference.errors import BundleError, FetchFailed, RequestRefused
from inference.limits import Memory, read_memory
from inference.loading import clear_away, load_engine, require_memory
from inference.manifest import Manifest
from inference.pages import let_cool
from inference.telemetry import get_logger

# A refused champion is tried again so many polls later (ten minutes, as set by default): a file that was missing may
# have come without the manifest or the pointer changing, and a sound bundle may have been refused for a bad read.
RETRY_POLLS = 20
# So long the model before is kept ready to take over again.
PROBATION_S = 60.0
# A new model that fails so many requests, and a share of them that the one before did not, is rolled back.
MIN_FAILURES, MIN_FAILED_SHARE = 5, 0.02
# Loading runs beside answers and must hand over Python's lock often; 5 ms by default.
LOADING_SWITCH_INTERVAL_S = 0.0005

log = get_logger()


@dataclass(slots=True)
class Tally:
    """What became of the requests that a model answered."""

    n_answered: int = 0
    n_failed: int = 0

    def failed_share(self) -> float:
        """Give the share of all requests that failed."""
        return self.n_failed / max(1, self.n_answered + self.n_failed)


@dataclass(frozen=True, slots=True)
class Live:
    """A model that answers; requests under way keep theirs when another takes over."""

    engine: Engine
    manifest: Manifest
    fingerprint: str
    loaded_at: dt.datetime
    tally: Tally = field(default_factory=Tally, compare=False)


class Watcher(Protocol):
    """Is told what becomes of champions; telemetry.Metrics is one."""

    def swapped(self, manifest: Manifest, outcome: Literal["swapped", "rolled_back"] = "swapped") -> None: ...

    def refused(self) -> None: ...


class Swap:
    """Holds the model of the moment; one task calls follow(), everybody else reads.

    `prepare` gets each model before its first answer. A model that is not needed is loaded only if memory allows.
    """

    def __init__(
        self,
        source: Source,
        metrics: Watcher,
        *,
        poll_seconds: float,
        role: str = "champion",
        prepare: Callable[[Engine], None] = lambda _: None,
        is_needed: bool = True,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        memory: Callable[[], Memory | None] = read_memory,
    ) -> None:
        self.current: Live | None = None
        self.reason = "the first model is being loaded"
        """Why there is no model, or why the newest champion is not the one that answers; empty when all is well."""
        self._previous: Live | None = None
        self._settling: asyncio.TimerHandle | None = None
        """Ends the probation; it holds no model, so that many swaps in a minute leave but one behind."""
        self._letting_go: asyncio.Task[None] | None = None
        self._source = source
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._role = role
        self._prepare = prepare
        self._is_needed = is_needed
        self._now = now
        self._memory = memory
        self._n_checks = 0
        self._refused: dict[str, int] = {}
        """fingerprint → the check at which it is tried again"""
        self._rolled_back = source.rolled_back()
        """fingerprint → why; not tried again, after a restart neither"""

    def live(self) -> Live:
        """Give the model that answers now; RequestRefused with 503 before there is one."""
        if self.current is None:
            raise RequestRefused(503, "no_model", f"no model is loaded: {self.reason}")
        return self.current

    async def follow(self) -> None:
        """Check for a new champion for ever."""
        while True:
            is_final = True
            try:
                is_final = await self.check()
                if self.current is not None:
                    await asyncio.to_thread(let_cool, self.current.engine.bundle.customer_arrays())
            except Exception as error:  # a fault in following must not end following
                self._say("champion_check_failed", f"{type(error).__name__}: {error}")
            if is_final:
                await asyncio.sleep(self._poll_seconds)

    async def check(self) -> bool:
        """Look once; what was refused is tried again when it changes, and now and then in case it was mended.

        False when the answer came from the cache and the registry itself is still to be asked.
        """
        live = self.current
        self._n_checks += 1
        self._refused = {refused: due for refused, due in self._refused.items() if due > self._n_checks}
        known = self._refused.keys() | self._rolled_back.keys() | ({live.fingerprint} if live else set())
        try:
            champion = await self._source.find(known)
        except FetchFailed as error:
            self._say("registry_unreachable", str(error))
            return True
        except BundleError as error:
            self._refuse("", error)
            return True
        if live is not None and champion.fingerprint == live.fingerprint:
            self._refused.clear()
            self.reason = ""
        elif champion.fingerprint in self._rolled_back:
            await self._fall_back()
            self.reason = self._rolled_back[champion.fingerprint]
            if self.current is None:  # better than no answers
                del self._rolled_back[champion.fingerprint]
                return False
        elif champion.refusal is not None:
            self._refuse(champion.fingerprint, champion.refusal)
        elif champion.fingerprint not in self._refused:
            await self._try(champion)
        return not champion.is_remembered

    def failed(self, live: Live) -> None:
        """Note that a model failed a request; go back to the one before when it does so again and again."""
        live.tally.n_failed += 1
        previous, tally = self._previous, live.tally
        if live is not self.current or previous is None or tally.n_failed < MIN_FAILURES:
            return
        if tally.failed_share() <= max(MIN_FAILED_SHARE, 2 * previous.tally.failed_share()):
            return
        n_asked = tally.n_failed + tally.n_answered
        reason = (
            f"{live.manifest.version} was rolled back to {previous.manifest.version}: "
            f"{tally.n_failed} of {n_asked} requests failed; promote another bundle"
        )
        self._rolled_back[live.fingerprint] = reason
        self.current, self._previous = previous, None
        self._metrics.swapped(previous.manifest, outcome="rolled_back")
        self._say("model_rolled_back", reason)
        self._note_good(previous)  # a hundred bytes, once: it is the one to keep

    async def _try(self, champion: Champion) -> None:
        await self._let_go()  # three models need more memory than two
        switch_interval_s = sys.getswitchinterval()
        sys.setswitchinterval(LOADING_SWITCH_INTERVAL_S)
        try:
            if self.current is None and self._is_needed:  # nobody is answered yet to whom it should yield
                with ThreadPoolExecutor(1, "first") as alone:
                    live = await asyncio.get_running_loop().run_in_executor(alone, self._load, champion)
            else:
                live = await asyncio.to_thread(self._load, champion)
        except BundleError as error:
            self._refuse(champion.fingerprint, error)
            await self._fall_back()
            return
        finally:
            sys.setswitchinterval(switch_interval_s)
        previous, self.current = self.current, live
        self._previous = previous
        if not champion.is_remembered:
            self._refused.clear()
            self.reason = champion.warning or ""
        elif not self._refused:
            self.reason = ""
        self._metrics.swapped(live.manifest)
        await asyncio.to_thread(self._note_good, live)
        log.info(
            "model_swapped",
            role=self._role,
            model_version=live.manifest.version,
            previous=previous.manifest.version if previous else None,
            cutoff_date=live.manifest.cutoff_date.isoformat(),
            n_live=live.manifest.n_live,
            warning=champion.warning,
        )
        if previous is None:
            gc.freeze()  # what is there now stays; a full collection would stop answers for 70 ms
        else:
            self._settling = asyncio.get_running_loop().call_later(PROBATION_S, self._settle)

    async def _fall_back(self) -> None:
        """Answer with the model of an earlier run when there is no other: the registry's was refused, or failed."""
        last = self._source.last_good() if self.current is None else None
        if last is not None and last.fingerprint not in self._refused:
            await self._try(last)

    def _note_good(self, live: Live) -> None:
        try:
            self._source.note_good(live.fingerprint, live.engine.bundle.folder, self._rolled_back)
        except OSError as error:
            log.warning("champion_not_noted", reason=f"{error.filename}: {error.strerror}")

    def _settle(self) -> None:
        self._letting_go = asyncio.get_running_loop().create_task(self._let_go())

    async def _let_go(self) -> None:
        """Let the model before go; its memory returns to the system before another is loaded."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        previous, self._previous = self._previous, None
        if previous is not None:
            folder = previous.engine.bundle.folder
            del previous
            await asyncio.to_thread(clear_away, folder)

    def _load(self, champion: Champion) -> Live:
        if champion.folder is None:
            raise AssertionError(f"no folder for the new champion {champion.fingerprint}")
        # The first model is tried in any case, unless others answer already: there is nothing to lose.
        if self.current is not None or not self._is_needed:
            require_memory(champion.folder, self._memory())
        engine = load_engine(champion.folder)
        self._prepare(engine)
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
