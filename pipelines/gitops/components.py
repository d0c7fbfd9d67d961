"""Build every optional component with each overlay that it could be listed in: off by default is not unchecked."""

import shutil
import tempfile
from pathlib import Path

from pipelines.gitops.building import build
from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import KUSTOMIZATION, Rendered, Tree, read_kustomization


def build_components(tree: Tree) -> tuple[list[Rendered], list[Finding]]:
    """Switch each component on in a copy of the tree, production first, and build that overlay."""
    rendered: list[Rendered] = []
    findings: list[Finding] = []
    for component in sorted(path.parent for path in tree.root.glob(f"apps/*/components/*/{KUSTOMIZATION}")):
        overlays = sorted(path for path in component.parent.parent.glob("overlays/*") if path.is_dir())
        named = [o for o in overlays if any(component.name in c for c in read_kustomization(o).get("components", []))]
        if named or not overlays:  # it is on somewhere, and built there
            continue
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch).resolve() / tree.root.name
            shutil.copytree(tree.root, copy)
            overlay = copy / overlays[0].relative_to(tree.root)
            with (overlay / KUSTOMIZATION).open("a", encoding="utf-8") as file:
                file.write(f"\ncomponents:\n  - ../../components/{component.name}\n")
            built = build(overlay, tree.shown(overlays[0]))
        if isinstance(built, Finding):
            what = f"with overlay {overlays[0].name}: {built.what}"
            findings.append(Finding(f"{tree.shown(component)}/{KUSTOMIZATION}", built.field, what, built.mend))
        else:
            rendered.append(Rendered(component, built.kustomization, built.documents))
    return rendered, findings
