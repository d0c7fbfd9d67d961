"""Run the main job as a user does, serve what came out, and check the answers.

python .ci/end_to_end.py --source URI --lake FOLDER
"""

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipelines.demo import choose_shopper, run_pipeline
from pipelines.edge import run_app
from pipelines.lake import open_lake
from pipelines.service import predict, running_service

STEPS = {"ingest", "process", "eda", "train"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True)
    parser.add_argument("--lake", required=True)
    arguments = parser.parse_args()
    environment = dict(os.environ)

    first = run_pipeline(arguments.source, arguments.lake, environment)
    print(f"first run: {first}")
    check_result(first)
    again = run_pipeline(arguments.source, arguments.lake, environment)
    for name in ("bundle_version", "bundle", "metrics", "baselines", "promoted"):
        check(again[name] == first[name], f"a second run has another {name}: {again[name]} after {first[name]}")
    check(set(again["reused"]) == STEPS, f"a second run did work again: it reused only {again['reused']}")

    shopper = choose_shopper(open_lake(arguments.lake), again["run_id"])
    model_uri = f"{arguments.lake}/registry" if first["promoted"] else first["bundle"]
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_service(model_uri, environment=environment, log_path=Path(scratch) / "service.log") as address,
    ):
        known = predict(address, {"customer_id": shopper.customer_id})
        check_answer(known, top_k=12, version=first["bundle_version"])
        check(
            known["source"] == "personal", f"customer {shopper.customer_id} has purchases, answered {known['source']}"
        )
        stranger = predict(address, {"customer_id": "0" * 64, "top_k": 100})
        check_answer(stranger, top_k=100, version=first["bundle_version"])
        check(stranger["source"] == "popular", f"an unknown customer was answered {stranger['source']}")
        seen = predict(address, {"article_ids": shopper.article_ids[:1], "top_k": 3})
        check_answer(seen, top_k=3, version=first["bundle_version"])
        check(seen["source"] == "personal", f"a known article was answered {seen['source']}")
    print(f"{arguments.source}: the run, its repetition and three answers are as they should be")


def check_result(result: dict[str, Any]) -> None:
    check(result["status"] == "Succeeded", f"the run ended {result['status']}: {result['error']}")
    check(set(result["seconds"]) == STEPS, f"seconds are given for {sorted(result['seconds'])}")
    for name in ("report", "eda_report"):
        page = Path((result[name] or "").removeprefix("file://"))
        check(page.is_file() and page.stat().st_size > 10_000, f"{name} {result[name]} is no page")
    check(Path(result["bundle"].removeprefix("file://"), "manifest.json").is_file(), f"no bundle in {result['bundle']}")
    check(len(result["baselines"]) >= 2, f"baselines are {sorted(result['baselines'])}")
    for name, metrics in {"model": result["metrics"], **result["baselines"]}.items():
        value = metrics["map_at_12"]
        check(math.isfinite(value) and 0 <= value < 1, f"map_at_12 of {name} is {value}")  # 0: so few buyers in a week


def check_answer(answer: dict[str, Any], *, top_k: int, version: str) -> None:
    recommended, scores = answer["recommendations"], answer["scores"]
    check(
        len(set(recommended)) == len(recommended) == len(scores) == answer["count"] == top_k, f"not {top_k}: {answer}"
    )
    check(scores == sorted(scores, reverse=True), f"not best first: {scores}")
    check(answer["model_version"] == version, f"version {answer['model_version']} answered, {version} was trained")


def check(holds: bool, message: str) -> None:
    if not holds:
        sys.exit(f"error: {message}")


if __name__ == "__main__":
    run_app(main)
