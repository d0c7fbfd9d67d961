"""Our server in the container that it is made for: its limits, model changes under load, overload, an hour of both."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.servers.neighbours_setup import ours
from benchmarks.servers.running import Running, running, send, start_load

MIB = 1 << 20
MEMORY_LIMIT = 320 * MIB
SLOW_MS = 50.0
SWAP_RATE = 200.0
SUSTAINED_RATES = (100, 200, 300, 400, 500, 600, 800)
SUSTAINED_P99_MS = 200.0


def n_failed(statuses: dict[str, int]) -> int:
    """Count answers other than 200 and connections that broke; what no connection was free to send is no failure."""
    return sum(count for status, count in statuses.items() if status not in ("200", "never sent"))


class Skipped(Exception):
    """This machine does not let us set limits; the message says why."""


@dataclass
class Container:
    """A cgroup (version 1) with a memory and a processor limit."""

    folders: list[Path] = field(default_factory=list)

    def enter(self) -> None:
        """Put this process, between fork and exec, under the limits."""
        for folder in self.folders:
            (folder / "tasks").write_text(str(os.getpid()))

    def working_set_bytes(self) -> int:
        """Read memory as the kubelet counts it."""
        folder = self.folders[0]
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int((folder / "memory.usage_in_bytes").read_text()) - int(statistics["total_inactive_file"])


@contextlib.contextmanager
def container(processors: float, memory_bytes: int = MEMORY_LIMIT) -> Iterator[Container]:
    """Make a cgroup with these limits; Skipped where that is not allowed or cgroups are of version 2 only."""
    root = Path("/sys/fs/cgroup")
    name = f"benchmark-serving-{os.getpid()}"
    made = Container()
    try:
        for controller, settings in (
            ("memory", {"memory.limit_in_bytes": memory_bytes}),
            ("cpu", {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": int(processors * 100_000)}),
        ):
            folder = root / controller / name
            folder.mkdir()
            made.folders.append(folder)
            for setting, value in settings.items():
                (folder / setting).write_text(str(value))
    except OSError as error:
        for folder in made.folders:
            folder.rmdir()
        raise Skipped(f"no limits: {error}; this needs root and cgroups of version 1") from error
    try:
        yield made
    finally:
        for folder in made.folders:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.1)


class Watch:
    """Reads a container's working set again and again, in a thread."""

    def __init__(self, made: Container) -> None:
        self._made = made
        self._started = time.monotonic()
        self._stop = threading.Event()
        self.samples: list[tuple[float, float]] = []
        """minutes, MiB"""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            minutes = (time.monotonic() - self._started) / 60
            self.samples.append((minutes, self._made.working_set_bytes() / MIB))

    def stop(self) -> list[tuple[float, float]]:
        """End and give what was seen."""
        self._stop.set()
        self._thread.join()
        return self.samples


def measure_under_limits(venvs: Path, bundle: Path, bodies: Path, scratch: Path, *, seconds: float) -> dict[str, Any]:
    """Answer under 1.5 CPU and 320 MiB, and find the rate that 0.2 CPU sustains."""
    figures: dict[str, Any] = {}
    body = json.loads(bodies.read_text())[0]
    service = ours(venvs, bundle, scratch / "cache")
    try:
        with (
            container(1.5) as made,
            running(service, body, scratch / "limited.log", before_exec=made.enter) as server,
        ):
            saturated = server.load(bodies, seconds=seconds)
            figures["rps_at_1_5_cpu"] = saturated["rps"]
            figures["working_set_mib_at_1_5_cpu"] = made.working_set_bytes() / MIB
        with (
            container(0.2) as made,
            running(service, body, scratch / "limited.log", before_exec=made.enter) as server,
        ):
            figures["start_seconds_at_0_2_cpu"] = server.start_seconds
            figures["sustained_rps_at_0_2_cpu"] = 0.0
            for rate in SUSTAINED_RATES:
                load = server.load(bodies, seconds=2 * seconds, rate=rate)
                if load["p99_ms"] > SUSTAINED_P99_MS or load["n_good"] < 0.97 * rate * 2 * seconds:
                    break
                figures["sustained_rps_at_0_2_cpu"] = load["rps"]
                figures["p99_ms_at_0_2_cpu"] = load["p99_ms"]
            figures["working_set_mib_at_0_2_cpu"] = made.working_set_bytes() / MIB
    except Skipped as reason:
        figures["skipped"] = str(reason)
    return figures


def measure_overload(venvs: Path, bundle: Path, bodies: Path, scratch: Path, *, seconds: float) -> dict[str, Any]:
    """Send ten times what 0.2 CPU sustains (4,000 a second) over 1,000 connections, then 100 a second."""
    body = json.loads(bodies.read_text())[0]
    service = ours(venvs, bundle, scratch / "cache", ACCESS_LOG_SHARE="0")
    try:
        with (
            container(0.2) as made,
            running(service, body, scratch / "overload.log", before_exec=made.enter) as server,
        ):
            before = server.load(bodies, seconds=seconds, rate=100)
            watch = Watch(made)
            flood = server.load(bodies, seconds=2 * seconds, rate=4000, connections=1000)
            peak = max(mib for _, mib in watch.stop())
            time.sleep(0.5)  # the flood's process waits as long for late answers; together: within a second
            after = server.load(bodies, seconds=seconds, rate=100)
            return {
                "answers_per_second_in_overload": flood["rps"],
                "statuses_in_overload": flood["statuses"],
                "p99_ms_of_answers_in_overload": flood["sent_p99_ms"],
                "p99_ms_with_the_wait_for_a_connection": flood["p99_ms"],
                "working_set_peak_mib": peak,
                "p99_ms_before": before["p99_ms"],
                "p99_ms_one_second_after": after["p99_ms"],
                "n_good_share_after": after["n_good"] / (100 * seconds),
            }
    except Skipped as reason:
        return {"skipped": str(reason)}


def measure_swaps(venvs: Path, bundle: Path, bodies: Path, scratch: Path, *, n_swaps: int) -> dict[str, Any]:
    """Change the champion again and again under load; no answer may fail, and none take 50 ms."""
    registry = two_versions(bundle, scratch / "registry")
    body = json.loads(bodies.read_text())[0]
    service = ours(venvs, registry, scratch / "cache-swaps", MODEL_POLL_SECONDS="0.2", ACCESS_LOG_SHARE="0.01")
    with contextlib.ExitStack() as stack:
        made = None
        with contextlib.suppress(Skipped):
            made = stack.enter_context(container(1.5))
        enter = made.enter if made else None
        server = stack.enter_context(running(service, body, scratch / "swaps.log", before_exec=enter))
        for version in ("B", "A"):  # both are copied to the cache once
            promote(registry, version)
            wait_for(server, version)
        quiet = send(service, server.port, bodies, seconds=5, rate=SWAP_RATE)
        watch = Watch(made) if made else None
        before = made.working_set_bytes() / MIB if made else float("nan")
        seconds: list[float] = []
        load = start_load(service, server.port, bodies, seconds=1.2 * n_swaps, rate=SWAP_RATE)
        ends = time.monotonic() + 1.2 * n_swaps
        while len(seconds) < n_swaps and time.monotonic() < ends - 1:
            version = "AB"[(len(seconds) + 1) % 2]
            started = time.monotonic()
            promote(registry, version)
            wait_for(server, version)
            seconds.append(time.monotonic() - started)
            time.sleep(max(0.0, 1.0 - (time.monotonic() - started)))
        figures = json.loads(load.communicate()[0].splitlines()[-1])
        samples = watch.stop() if watch else []
        return {
            "n_swaps": len(seconds),
            "n_requests": sum(figures["statuses"].values()),
            "n_failed": n_failed(figures["statuses"]),
            "statuses": figures["statuses"],
            "n_over_50_ms": figures["n_over_50_ms"],
            "max_ms": figures["max_ms"],
            "p99_ms": figures["p99_ms"],
            "n_over_50_ms_without_swaps": quiet["n_over_50_ms"],
            "max_ms_without_swaps": quiet["max_ms"],
            "median_seconds_to_take_over": sorted(seconds)[len(seconds) // 2] if seconds else float("nan"),
            "working_set_mib_before": before,
            "working_set_peak_mib": max((mib for _, mib in samples), default=float("nan")),
            "working_set_mib_after": samples[-1][1] if samples else float("nan"),
        }


def measure_soak(venvs: Path, bundle: Path, bodies: Path, scratch: Path, *, minutes: float) -> dict[str, Any]:
    """Answer 200 requests a second with a model change every three minutes, and watch the memory."""
    registry = two_versions(bundle, scratch / "registry")
    body = json.loads(bodies.read_text())[0]
    service = ours(venvs, registry, scratch / "cache-swaps", MODEL_POLL_SECONDS="1", ACCESS_LOG_SHARE="0.01")
    try:
        with (
            container(1.5) as made,
            running(service, body, scratch / "soak.log", before_exec=made.enter) as server,
        ):
            watch = Watch(made)
            load = start_load(service, server.port, bodies, seconds=60 * minutes, rate=SWAP_RATE)
            n_swaps = 0
            while load.poll() is None:
                time.sleep(min(180.0, 60 * minutes / 20))
                n_swaps += 1
                promote(registry, "AB"[n_swaps % 2])
            figures = json.loads(load.communicate()[0].splitlines()[-1])
            samples = watch.stop()
            step = max(1, len(samples) // 500)
            return {
                "minutes": minutes,
                "n_swaps": n_swaps,
                "n_failed": n_failed(figures["statuses"]),
                "n_over_50_ms": figures["n_over_50_ms"],
                "working_set_mib_at_the_end": samples[-1][1],
                "working_set_peak_mib": max(mib for _, mib in samples),
                "working_set_mib": samples[::step],
            }
    except Skipped as reason:
        return {"skipped": str(reason)}


def two_versions(bundle: Path, registry: Path) -> Path:
    """Make a registry of one bundle under two versions, its files linked, with the first as champion."""
    shutil.rmtree(registry, ignore_errors=True)
    for version in "AB":
        folder = registry / "bundles" / version
        folder.mkdir(parents=True)
        for path in bundle.iterdir():
            if path.name != "manifest.json":
                os.link(path, folder / path.name)
        manifest = json.loads((bundle / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    promote(registry, "A")
    return registry


def promote(registry: Path, version: str) -> None:
    """Name the champion."""
    partial = registry / "champion.partial"
    partial.write_text(json.dumps({"version": version}))
    partial.replace(registry / "champion.json")


def wait_for(server: Running, version: str) -> None:
    """Wait until a version answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=5) as answer,
        ):
            if json.load(answer)["model_version"] == version:
                return
        time.sleep(0.01)
    raise RuntimeError(f"version {version} did not take over; the end of the log:\n{server.log.read_text()[-2000:]}")
