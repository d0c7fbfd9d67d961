"""What one answer of a bundle costs on this machine: python -m pipelines.recommender.serving_cost FOLDER.

Runs in a process of its own that imports what the server imports, so that memory is that of serving, not of training.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from inference.bundle import load_bundle
from inference.engine import Engine, Request

N_REQUESTS = 500


def measure(folder: Path, n_requests: int = N_REQUESTS) -> dict[str, float]:
    """Answer the bundle's golden customers one by one at one thread; milliseconds, MiB and how many were asked."""
    engine = Engine(load_bundle(folder), threads=1)
    requests = [Request(**case["request"]) for case in engine.bundle.read_golden()] or [Request()]
    for request in requests:  # the first answers pay for pages that are read in
        engine.recommend(request)
    took_ms = np.empty(n_requests)
    for number in range(n_requests):
        started = time.perf_counter()
        engine.recommend(requests[number % len(requests)])
        took_ms[number] = 1000 * (time.perf_counter() - started)
    return {
        "ms_per_answer": round(float(np.median(took_ms)), 3),
        "ms_per_answer_p99": round(float(np.quantile(took_ms, 0.99)), 3),
        "rss_mib": round(_rss_mib(), 1),
        "bundle_mib": round(sum(path.stat().st_size for path in folder.iterdir()) / 2**20, 2),
        "n_requests": n_requests,
        "threads": 1,
    }


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def measure_apart(folder: Path, n_requests: int = N_REQUESTS) -> dict[str, Any]:
    """Measure in a process of its own; where that is not possible, say why instead."""
    command = [sys.executable, "-m", __name__, str(folder), str(n_requests)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        return {"error": result.stderr.strip().splitlines()[-1:] or [f"exit {result.returncode}"]}
    measured: dict[str, Any] = json.loads(result.stdout)
    return measured


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else N_REQUESTS)))
