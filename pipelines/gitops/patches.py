"""What kustomize does not say: patches that match nothing, patches by list index, images that reach nothing."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.images import parse_reference
from pipelines.gitops.tree import KUSTOMIZATION, Document, Rendered, Source, Tree, kind_of, name_of, walk

SELECTED = ("group", "version", "kind", "name", "namespace")


def check_patches(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check the patches, replacements and images of one kustomization against what it draws in and gives out."""
    file = tree.shown(rendered.file)
    kustomization = rendered.kustomization
    for number, patch in enumerate(kustomization.get("patches", [])):
        field = f"patches[{number}]"
        target = patch.get("target")
        if target and not any(_selects(target, source) for source in rendered.sources):
            wanted = ", ".join(f"{key} {value}" for key, value in target.items())
            yield Finding(
                file, f"{field}.target", f"matches nothing: no resource has {wanted}", _nearest(target, rendered)
            )
        yield from _operations(file, field, _operations_of(patch, rendered.folder))
    for number, replacement in enumerate(kustomization.get("replacements", [])):
        yield from _replacement(tree, rendered, f"replacements[{number}]", replacement)
    yield from _images(file, rendered)


def unlisted_files(tree: Tree, rendered: Rendered, seen: set[Path]) -> Iterator[Finding]:
    """Find YAML beside a kustomization that nothing names, here or in a base: it has no effect."""
    for folder, listed in _listed(rendered.folder).items():
        if folder in seen:
            continue
        seen.add(folder)
        for path in sorted(folder.glob("*.yaml")):
            if path.name != KUSTOMIZATION and path.resolve() not in listed:
                yield Finding(
                    tree.shown(path),
                    "",
                    "no kustomization names this file, so it has no effect",
                    f"list it in {tree.shown(folder / KUSTOMIZATION)}, or remove it",
                )


def _listed(folder: Path) -> dict[Path, set[Path]]:
    """Give kustomized folder → files that its kustomization names, for a folder and what it draws in."""
    path = folder / KUSTOMIZATION
    if not path.is_file():
        return {}
    kustomization = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    named = {(folder / text).resolve() for _, value in walk(kustomization) for text in _paths_in(value)}
    found = {folder.resolve(): named}
    for name in [*kustomization.get("resources", []), *kustomization.get("components", [])]:
        if (folder / name).is_dir():
            found |= _listed(folder / name)
    return found


def _paths_in(value: Any) -> list[str]:
    """Read a string of a kustomization as a path; generators write `key=path`."""
    return [value, value.partition("=")[2]] if isinstance(value, str) and "\n" not in value and len(value) < 200 else []


def _selects(target: Mapping[str, Any], source: Source) -> bool:
    group, _, version = str(source.document.get("apiVersion", "")).rpartition("/")
    metadata = source.document.get("metadata", {})
    has = {"group": group, "version": version, "kind": kind_of(source.document), "name": name_of(source.document)}
    has["namespace"] = metadata.get("namespace", "")
    fits = all(
        re.fullmatch(str(target[key]), has[key])
        for key in SELECTED
        if target.get(key) and (has[key] or key != "namespace")
    )
    labels = metadata.get("labels", {})
    return fits and all(
        labels.get(key) == value
        for key, _, value in (pair.partition("=") for pair in _pairs(target.get("labelSelector")))
    )


def _pairs(selector: str | None) -> list[str]:
    return [pair.strip() for pair in selector.split(",")] if selector and "=" in selector else []


def _nearest(target: Mapping[str, Any], rendered: Rendered) -> str:
    kind = target.get("kind")
    same = sorted({"/".join(s.identity) for s in rendered.sources if s.identity[0] == kind})
    known = same or sorted({"/".join(s.identity) for s in rendered.sources})
    return f"there are: {', '.join(known)}; correct the target or remove the patch"


def _operations_of(patch: Mapping[str, Any], folder: Path) -> list[Document]:
    """Read the operations of a JSON patch, written in place or in a file; a merge patch has none."""
    text = patch.get("patch")
    if text is None and patch.get("path") and (folder / patch["path"]).is_file():
        text = (folder / patch["path"]).read_text(encoding="utf-8")
    loaded = yaml.safe_load(text) if text else None
    return [operation for operation in loaded if isinstance(operation, dict)] if isinstance(loaded, list) else []


def _operations(file: str, field: str, operations: list[Document]) -> Iterator[Finding]:
    for operation in operations:
        path = str(operation.get("path", ""))
        if re.search(r"/\d+(/|$)", path):
            yield Finding(
                file,
                field,
                f"patches {path} by list index, which is another entry as soon as the list changes",
                "write a merge patch that names the entry, or a replacement with [name=…]",
            )


def _replacement(tree: Tree, rendered: Rendered, field: str, replacement: Mapping[str, Any]) -> Iterator[Finding]:
    file = tree.shown(rendered.file)
    if replacement.get("path"):
        path = rendered.folder / replacement["path"]
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        for inner in loaded if isinstance(loaded, list) else [loaded]:
            yield from _replacement(tree, rendered, f"{field}({replacement['path']})", inner)
        return
    for number, target in enumerate(replacement.get("targets", [])):
        select = target.get("select", {})
        if not any(_selects(select, source) for source in rendered.sources):
            wanted = ", ".join(f"{key} {value}" for key, value in select.items())
            what = f"matches nothing: no resource has {wanted}"
            yield Finding(file, f"{field}.targets[{number}].select", what, _nearest(select, rendered))
        for path in target.get("fieldPaths", []):
            if re.search(r"(^|\.)\d+(\.|$)", path):
                what = f"replaces {path} by list index, which is another entry as soon as the list changes"
                yield Finding(file, f"{field}.targets[{number}]", what, "select the entry by name: [name=…]")


def _images(file: str, rendered: Rendered) -> Iterator[Finding]:
    values = [value for document in rendered.documents for path, value in walk(document) if path.endswith(".image")]
    used = [parse_reference(str(value)) for value in values]
    for image in rendered.kustomization.get("images", []):
        # A replacement may put the registry before the name afterwards, so only the last part is compared.
        name = str(image.get("newName", image.get("name", ""))).rpartition("/")[2]
        tag, digest = str(image.get("newTag", "")), str(image.get("digest", ""))
        if not any(r.name == name and r.tag == tag and r.digest == digest for r in used):
            yield Finding(
                file,
                f"images[{image.get('name')}]",
                f"reaches no container: nothing that is rendered runs {name}:{tag}{'@' + digest if digest else ''}",
                "correct the name; a custom kind needs its image paths in a file under `configurations:`",
            )
