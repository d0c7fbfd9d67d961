"""What speaks for a promotion: how good the champion is, what it recommends otherwise, what changes in manifests."""

import difflib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import PipelineError, UsageError
from pipelines.gitops.building import build
from pipelines.gitops.findings import Finding
from pipelines.gitops.overlays import Pin, write_pin
from pipelines.gitops.tree import Rendered
from pipelines.lake import Lake

N_SHOWN = 5  # customers in the recommendation diff


@dataclass(frozen=True)
class Change:
    """One overlay before and after: rendered text, and the images of the new one."""

    overlay: str
    before: Pin
    after: Pin
    diff: str
    image: str
    """as a node will pull it: registry, name, tag, digest"""


def preview(root: Path, overlay: Path, before: Pin, after: Pin) -> Change:
    """Build the overlay as it is and, in a copy, as it would be."""
    shown = str(overlay.relative_to(root.parent)) if overlay.is_relative_to(root.parent) else str(overlay)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch).resolve() / root.name
        shutil.copytree(root, copy)
        changed = copy / overlay.relative_to(root)
        old = _built(changed, shown)
        write_pin(changed, after)
        new = _built(changed, shown)
    lines = difflib.unified_diff(_text(old), _text(new), f"{shown} before", f"{shown} after", lineterm="", n=2)
    images = {str(value) for document in new.documents for value in _images(document)}
    named = [image for image in sorted(images) if str(after) in image]
    if not named:
        raise UsageError(
            f"{shown}: images: reaches nothing, {after} is not in what is rendered; make validate-gitops says why"
        )
    return Change(shown, before, after, "\n".join(lines), named[0])


def _built(folder: Path, shown: str) -> Rendered:
    built = build(folder, shown)
    if isinstance(built, Finding):
        raise UsageError(f"{shown} does not build: {built.what}; {built.mend}")
    return built


def _text(rendered: Rendered) -> list[str]:
    return yaml.safe_dump_all(rendered.documents, sort_keys=False, width=10_000).splitlines()


def _images(value: Any) -> list[Any]:
    if isinstance(value, dict):
        own = [inner for key, inner in value.items() if key == "image" and isinstance(inner, str)]
        return own + [image for inner in value.values() for image in _images(inner)]
    return [image for inner in value for image in _images(inner)] if isinstance(value, list) else []


def champion_evidence(lake: Lake) -> str:
    """Describe the champion of a lake in Markdown: metrics with intervals, slices, and what it recommends otherwise."""
    from pipelines.registry.champion import read_champion

    champion = read_champion(lake)
    if champion is None:
        return f"{lake.uri} has no champion yet."
    run, document = _evaluation(lake, champion.version)
    parts = [f"Champion `{champion.version}` ({champion.move.get('why') or 'no reason noted'})."]
    if document is None:
        parts.append("The run that trained it has left the lake: no tables.")
    else:
        parts += [f"Evaluated by run `{run}`.", _metric_table(document["metrics"]), _slice_table(document["slices"])]
    parts.append(_recommendation_diff(lake, champion.version, champion.move.get("from")))
    return "\n\n".join(parts)


def _evaluation(lake: Lake, version: str) -> tuple[str, dict[str, Any] | None]:
    """Find the newest run that made a version, and what it measured."""
    for key in reversed([key for key in lake.list("artifacts/") if key.endswith("/metrics.json")]):
        document = json.loads(lake.read_bytes(key))
        if document.get("bundle", {}).get("version") == version:
            return key.split("/")[1], document
    return "", None


def _metric_table(metrics: Mapping[str, Any]) -> str:
    names = list(metrics)
    rows = [[metric, *(_with_interval(metrics[name].get(metric)) for name in names)] for metric in metrics["model"]]
    return _table(["metric [95 % interval]", *names], rows)


def _slice_table(slices: Mapping[str, Any]) -> str:
    """One row a slice; the differences are the model's to each rule on the same customers."""
    first: dict[str, Any] = next(iter(slices.values()), {"map_at_12": {}})
    names, rules = list(first["map_at_12"]), list(first.get("differences", {}))
    rows = [
        [
            name,
            str(values["n"]),
            *(f"{values['map_at_12'][model]:.4f}" for model in names),
            *(_with_interval(values["differences"][rule], sign="+") for rule in rules),
        ]
        for name, values in slices.items()
    ]
    return _table(["map_at_12 by slice", "customers", *names, *(f"model − {rule}" for rule in rules)], rows)


def _with_interval(value: Mapping[str, Any] | None, sign: str = "") -> str:
    if not value or value.get("mean") is None:
        return ""
    return f"{value['mean']:{sign}.4f} [{value['low']:{sign}.4f}, {value['high']:{sign}.4f}]"


def _recommendation_diff(lake: Lake, version: str, previous: str | None) -> str:
    """Ask the champion and the one before it the golden requests of the champion's bundle."""
    if not previous:
        return "No champion before it to compare recommendations with."
    from inference.bundle import load_bundle
    from inference.engine import Engine, Request
    from inference.errors import BundleError
    from pipelines.registry.bundles import fetch_bundle

    with lake.scratch() as scratch:
        try:
            engines = []
            for name in (version, previous):
                fetch_bundle(lake, name, scratch / name)
                engines.append(Engine(load_bundle(scratch / name)))
            requests = [Request(**case["request"]) for case in engines[0].bundle.read_golden()]
            answers = [engine.recommend_batch(requests) for engine in engines]
        except (BundleError, PipelineError) as error:
            return f"Recommendations cannot be compared with `{previous}`: {error}"
    rows, overlaps = [], []
    for request, new, old in zip(requests, *answers, strict=True):
        kept = set(new.article_ids) & set(old.article_ids)
        overlaps.append(len(kept) / max(1, len(new.article_ids)))
        entered = [article for article in new.article_ids if article not in kept]
        left = [article for article in old.article_ids if article not in kept]
        asked = f"{request.customer_id[:8]}…" if request.customer_id else f"{len(request.article_ids)} articles"
        rows.append([asked, f"{len(kept)}", " ".join(entered[:4]), " ".join(left[:4])])
    mean = sum(overlaps) / max(1, len(overlaps))
    table = _table(["asked", "kept", "new (first 4)", "gone (first 4)"], rows[:N_SHOWN])
    return f"Against `{previous}`, {mean:.0%} of the recommendations stay, over {len(rows)} golden requests.\n\n{table}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
