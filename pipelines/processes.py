"""Processes of a local run, each with its children in a group of its own: none is left behind, however the run ends."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pipelines import watchdog

_MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended; exit_code is 128 + signal when one killed it, as in a pod."""

    exit_code: int
    peak_rss_bytes: int
    """of the process or of its largest finished child, whichever is more; never below this runner's own, because Linux
    starts counting before the program is loaded"""
    hit_deadline: bool = False


class ProcessGroups:
    """Start processes, wait for them, and end them all when the `with` block or this whole process ends."""

    def __init__(self, *, grace_seconds: float = 10.0) -> None:
        self._grace_seconds = grace_seconds
        self._running: set[int] = set()

    def __enter__(self) -> Self:
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the run, not its watchdog
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill_all()
        with suppress(BrokenPipeError):
            self._pipe.close()
        self._watchdog.wait()

    async def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], log_path: Path, deadline_seconds: float | None = None
    ) -> Exit:
        """Run one command with its output appended to a file; cancelling ends its whole group first."""
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._announce("+", process.pid)
        waiter = asyncio.ensure_future(asyncio.to_thread(_wait, process))
        hit_deadline = False
        try:
            done, _ = await asyncio.wait({waiter}, timeout=deadline_seconds)
            hit_deadline = not done
        finally:
            await self._end(process.pid, waiter)
        exit_code, peak_rss_bytes = waiter.result()
        return Exit(exit_code=exit_code, peak_rss_bytes=peak_rss_bytes, hit_deadline=hit_deadline)

    def kill_all(self) -> None:
        """Give nobody time to finish."""
        for group in self._running:
            _signal(group, signal.SIGKILL)

    async def _end(self, group: int, waiter: "asyncio.Future[tuple[int, int]]") -> None:
        """End a group that still runs, politely at first."""
        if not waiter.done():
            _signal(group, signal.SIGTERM)
            await asyncio.wait({waiter}, timeout=self._grace_seconds)
        if not waiter.done():
            _signal(group, signal.SIGKILL)
            await asyncio.wait({waiter})
        self._announce("-", group)

    def _announce(self, sign: str, group: int) -> None:
        (self._running.add if sign == "+" else self._running.discard)(group)
        with suppress(BrokenPipeError):  # without its watchdog a run still works; it only loses the guard
            self._pipe.write(f"{sign}{group}\n")
            self._pipe.flush()

    @property
    def _pipe(self) -> IO[str]:
        assert self._watchdog.stdin is not None
        return self._watchdog.stdin


def _wait(process: "subprocess.Popen[bytes]") -> tuple[int, int]:
    """Wait by wait4, which also tells the peak memory; Popen must then be told that its process is gone."""
    # First without reaping: until then the group's number cannot be given to others, so ending strays hits only them.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    _signal(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    return (128 - code if code < 0 else code), usage.ru_maxrss * _MAXRSS_UNIT_BYTES


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS answers PermissionError for a group of zombies
        os.killpg(group, number)
