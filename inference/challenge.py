"""Put the second model together: where it comes from, its queue, and when it is loaded."""

import asyncio
from dataclasses import dataclass

from inference.batching import Batcher
from inference.challenger import Challenger, ChallengerWatcher
from inference.champion import open_source
from inference.errors import SettingsInvalid
from inference.rules_file import RulesBook
from inference.settings import Settings
from inference.swap import Swap
from inference.telemetry import Metrics

WAIT_FOR_CHAMPION_S = 0.2


@dataclass(frozen=True, slots=True)
class Challenge:
    """The challenger with what it needs of its own."""

    challenger: Challenger
    batcher: Batcher
    swap: Swap

    async def follow(self, champion: Swap) -> None:
        """Load once the champion answers, so that memory is counted with it; then follow and compare for ever."""
        while champion.current is None:
            await asyncio.sleep(WAIT_FOR_CHAMPION_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.swap.follow())
            group.create_task(self.challenger.follow())

    def version(self) -> str | None:
        """Name the model that challenges, if one is loaded."""
        return self.swap.current.manifest.version if self.swap.current else None

    def refusal(self) -> str | None:
        """Say why none is loaded, or why it is not the newest."""
        return self.swap.reason or None


def open_challenge(settings: Settings, metrics: Metrics, book: RulesBook) -> Challenge | None:
    """Build it from the settings; None when they name no second model, SettingsInvalid when it would do nothing."""
    if settings.challenger_uri is None:
        if settings.challenger_share or settings.shadow_share:
            raise SettingsInvalid("CHALLENGER_SHARE and SHADOW_SHARE need CHALLENGER_URI, a second bundle or registry")
        return None
    if not settings.challenger_share and not settings.shadow_share:
        raise SettingsInvalid(
            f"CHALLENGER_URI={settings.challenger_uri} does nothing by itself: give CHALLENGER_SHARE or SHADOW_SHARE"
        )
    swap = Swap(
        open_source(settings.challenger_uri, settings.model_cache / "challenger"),
        ChallengerWatcher(metrics.registry),
        poll_seconds=settings.model_poll_seconds,
        role="challenger",
        prepare=book.prepare,
        is_needed=False,
    )
    challenger = Challenger(
        lambda: swap.current,
        metrics.registry,
        share=settings.challenger_share,
        shadow_share=settings.shadow_share,
    )
    return Challenge(challenger, Batcher(swap.live, metrics.batch_size.observe, swap.failed), swap)
