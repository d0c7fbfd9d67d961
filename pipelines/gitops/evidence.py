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

from pipelines.errors import UsageError
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
    from pipelines.registry.champion import read_champion  # needs the serving packages, which an edit of tags does not

    champion = read_champion(lake)
    if champion is None:
        return f"{lake.uri} has no champion yet."
    parts = [f"Champion `{champion.version}`: {champion.move.get('why') or 'no reason noted'}."]
    run, document = _evaluation(lake, champion.version)
    if document is None:
        parts.append("The run that trained it has left the lake: no tables.")
    else:
        parts += [f"Evaluated by run `{run}`.", _metric_table(document["metrics"]), _slice_table(document["slices"])]
        parts.append(_recommendation_diff(document.get("changes")))
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


def _recommendation_diff(changes: Mapping[str, Any] | None) -> str:
    """Say what training found when it asked the champion before this one and this one for the same customers."""
    if not changes:
        return "It is the first champion of this lake: there are no recommendations to compare with."
    customers = changes["customers"]
    rows, kept = [], 0
    for one in customers:
        old, new = ([article["article_id"] for article in one[key]] for key in ("before", "after"))
        kept += one["overlap"]
        entered = [_name(article) for article in one["after"] if article["article_id"] not in old]
        left = [_name(article) for article in one["before"] if article["article_id"] not in new]
        rows.append([one["customer"], f"{one['overlap']} of {len(new)}", _first(entered), _first(left)])
    share = kept / max(1, sum(len(one["after"]) for one in customers))
    intro = (
        f"Against `{changes['since']}`, {share:.0%} of the recommendations of {len(customers)} fixed customers stay."
    )
    most_changed = sorted(range(len(rows)), key=lambda number: customers[number]["overlap"])[:N_SHOWN]
    shown = [rows[number] for number in most_changed]
    return f"{intro} Those who change most:\n\n{_table(['customer', 'kept', 'new', 'gone'], shown)}"


def _name(article: Mapping[str, Any]) -> str:
    return str(article.get("name") or article["article_id"]).replace("|", "/")


def _first(names: Sequence[str], n: int = 3) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
