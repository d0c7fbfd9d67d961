"""What kustomize does not say: patches that match nothing, patches by list index, images that reach nothing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.images import parse_reference
from pipelines.gitops.tree import (
    KUSTOMIZATION,
    Document,
    Rendered,
    Source,
    Tree,
    documents_of,
    kind_of,
    load_all,
    name_of,
    named_in,
    read_kustomization,
    walk,
)

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
        chosen = [source for source in rendered.sources if target and _selects(target, source)]
        yield from _operations(file, field, _operations_of(patch, rendered.folder), chosen)
    for number, replacement in enumerate(kustomization.get("replacements", [])):
        yield from _replacement(tree, rendered, f"replacements[{number}]", replacement)
    yield from _images(file, rendered)


def unlisted_files(tree: Tree, rendered: Rendered, seen: set[Path]) -> Iterator[Finding]:
    """Find YAML beside a kustomization that nothing names, here or in a base: it has no effect."""
    values = _values_files(tree)
    for folder, listed in _listed(rendered.folder).items():
        if folder in seen:
            continue
        seen.add(folder)
        inner = [path.parent for path in folder.rglob(KUSTOMIZATION) if path.parent != folder]
        for path in sorted(folder.rglob("*.yaml")):
            is_others = any(path.is_relative_to(other) for other in inner)
            is_named = path.name == KUSTOMIZATION or path.resolve() in listed | values
            if not is_named and not is_others and not _is_promtool_test(path):
                yield Finding(
                    tree.shown(path),
                    "",
                    "no kustomization names this file, so it has no effect",
                    f"list it in {tree.shown(folder / KUSTOMIZATION)}, or remove it",
                )


def _is_promtool_test(path: Path) -> bool:
    """Tests lie beside the rules that they test; `promtool test rules` reads them."""
    return any("rule_files" in document for document in documents_of(path))


def _values_files(tree: Tree) -> set[Path]:
    """Give the files that Applications hand to charts, as `$values/PATH`."""
    texts = (path.read_text(encoding="utf-8") for path in (tree.root / "bootstrap").rglob("*.yaml"))
    return {(tree.root.parent / name).resolve() for text in texts for name in re.findall(r"\$values/(\S+)", text)}


def _listed(folder: Path) -> dict[Path, set[Path]]:
    """Give kustomized folder → files that its kustomization names, for a folder and what it draws in."""
    path = folder / KUSTOMIZATION
    if not path.is_file():
        return {}
    kustomization = read_kustomization(folder)
    named = {(folder / text).resolve() for _, value in walk(kustomization) for text in _paths_in(value)}
    found = {folder.resolve(): named}
    for name in named_in(kustomization):
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
    loaded = next(iter(load_all(text)), None) if text else None
    return [operation for operation in loaded if isinstance(operation, dict)] if isinstance(loaded, list) else []


def _operations(file: str, field: str, operations: list[Document], targets: Sequence[Source]) -> Iterator[Finding]:
    for operation in operations:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in str(operation.get("path", "")).split("/")[1:]]
        if any(_picks_by_index(source.document, parts) for source in targets):
            what = f"patches {operation['path']} by list index, which is another entry as soon as the list changes"
            yield Finding(file, field, what, "write a replacement that names the entry: [name=…]")


def _picks_by_index(value: Any, parts: Sequence[str]) -> bool:
    """Say whether a path picks an entry by number that has a name to pick it by."""
    for part in parts:
        if isinstance(value, list):
            if not part.isdecimal() or int(part) >= len(value):
                return False
            value = value[int(part)]
            if isinstance(value, dict) and "name" in value:
                return True
        elif isinstance(value, dict):
            value = value.get(part)
    return False


def _replacement(tree: Tree, rendered: Rendered, field: str, replacement: Mapping[str, Any]) -> Iterator[Finding]:
    file = tree.shown(rendered.file)
    if replacement.get("path"):
        path = rendered.folder / replacement["path"]
        loaded: Any = next(iter(load_all(path.read_text(encoding="utf-8"))), [])
        for inner in loaded if isinstance(loaded, list) else [loaded]:
            yield from _replacement(tree, rendered, f"{field}({replacement['path']})", inner)
        return
    for number, target in enumerate(replacement.get("targets", [])):
        select = target.get("select", {})
        if not any(_selects(select, source) for source in rendered.sources):
            wanted = ", ".join(f"{key} {value}" for key, value in select.items())
            what = f"matches nothing: no resource has {wanted}"
            yield Finding(file, f"{field}.targets[{number}].select", what, _nearest(select, rendered))
        chosen = [source for source in rendered.sources if _selects(select, source)]
        for path in target.get("fieldPaths", []):
            parts = re.findall(r"\[[^\]]*\]|[^.\[\]]+", path)
            if any(_picks_by_index(source.document, parts) for source in chosen):
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
