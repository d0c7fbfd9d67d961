"""Build every optional component with a kustomization that it could be listed in: off by default is not unchecked."""

import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from pipelines.gitops.building import build
from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import KUSTOMIZATION, Rendered, Tree, drawn_in_by


def build_components(tree: Tree, only: Collection[str] = ()) -> tuple[list[Rendered], list[Finding]]:
    """Switch each component that is off on in a copy of the tree, and build its owner there; `only` some, if given."""
    rendered: list[Rendered] = []
    findings: list[Finding] = []
    drawn_in = {folder for top in tree.kustomized for folder in drawn_in_by(top)}
    for component in tree.components:
        if component.resolve() in drawn_in:  # on somewhere, and built there
            continue
        if only and str(component.relative_to(tree.root)) not in only:
            continue
        owner = owner_of(tree, component)
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch).resolve() / tree.root.name
            shutil.copytree(tree.root, copy)
            with (copy / owner.relative_to(tree.root) / KUSTOMIZATION).open("a", encoding="utf-8") as file:
                file.write(f"\ncomponents:\n  - {os.path.relpath(component, owner)}\n")
            built = build(copy / owner.relative_to(tree.root), tree.shown(owner))
        if isinstance(built, Finding):
            what = f"with {tree.shown(owner)}: {built.what}"
            findings.append(Finding(f"{tree.shown(component)}/{KUSTOMIZATION}", built.field, what, built.mend))
        else:
            rendered.append(Rendered(component, built.kustomization, built.documents))
    return rendered, findings


def owner_of(tree: Tree, component: Path) -> Path:
    """Give what would list a component: its application's first overlay, or bootstrap for one of the platform."""
    overlays = [overlay for overlay in tree.overlays if component.is_relative_to(overlay.parent.parent)]
    return overlays[0] if overlays else tree.root / "bootstrap"
