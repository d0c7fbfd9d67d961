"""Do configuration, overlays and namespaces agree: each environment in both, each object in the documented place?"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import KUSTOMIZATION, Rendered, Tree, documents_of, kind_of, label, read_kustomization

SUFFIX = {"production": "prod", "staging": "staging"}
PREFIX = {"ml-recommendation-inference": "ml-inference", "ml-training-workflow-circle": "ml-training"}
CLUSTER_WIDE = {
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "ClusterPolicy",
    "ClusterSecretStore",
    "PriorityClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "StorageClass",
}


def check_environments(tree: Tree) -> Iterator[Finding]:
    """Compare the environments of config/ with the overlays of each application."""
    folder = tree.root / "config/environments"
    configured = {path.stem: path for path in sorted(folder.glob("*.yaml")) if path.name != KUSTOMIZATION}
    for application in sorted({path.parent.parent for path in tree.overlays}):
        overlays = {path.name: path for path in tree.overlays if path.parent.parent == application}
        for name in sorted(set(configured) - set(overlays)):
            yield Finding(
                tree.shown(configured[name]),
                "",
                f"environment {name} has no overlay of {application.name}",
                f"add {tree.shown(application / 'overlays' / name)}, or remove the environment",
            )
        for name in sorted(set(overlays) - set(configured)):
            yield Finding(
                tree.shown(overlays[name]),
                "",
                f"overlay {name} has no environment in {tree.shown(folder)}",
                f"add {tree.shown(folder / name)}.yaml, or remove the overlay",
            )
    for name, path in configured.items():
        documents = documents_of(path)
        own = documents[0].get("metadata", {}).get("name") if documents else None
        if own != name:
            yield Finding(tree.shown(path), "metadata.name", f"is {own!r} in the file of {name!r}", f"write {name}")


def check_namespaces(tree: Tree, every: Sequence[Rendered]) -> Iterator[Finding]:
    """Check that overlays set their namespace, the documented one, and that everything in them lands there."""
    for rendered in every:
        if rendered.folder.parent.name != "overlays":
            continue
        file, wanted = tree.shown(rendered.file), namespace_of(rendered.folder)
        found = rendered.kustomization.get("namespace")
        if not found:
            what = "is missing: everything would land wherever it is applied from"
            yield Finding(file, "namespace", what, f"write namespace: {wanted or 'the namespace of this overlay'}")
            continue
        if wanted and found != wanted:
            yield Finding(file, "namespace", f"is {found}, documented is {wanted}", f"write namespace: {wanted}")
        for document in rendered.documents:
            own = document["metadata"].get("namespace")
            if kind_of(document) not in CLUSTER_WIDE and own != found:
                source = tree.shown(rendered.file_of(document))
                what = f"is {own}, the overlay's is {found}"
                yield Finding(
                    source, f"{label(document)}.metadata.namespace", what, "leave it out: the overlay sets it"
                )


def namespace_of(overlay: Path) -> str | None:
    """Give the documented namespace of an overlay; None for an application or environment that has no rule."""
    prefix, suffix = PREFIX.get(overlay.parent.parent.name), SUFFIX.get(overlay.name)
    return f"{prefix}-{suffix}" if prefix and suffix else None


def namespaces(tree: Tree) -> dict[Path, str]:
    """Give overlay → the namespace that its kustomization sets."""
    found = {overlay: read_kustomization(overlay).get("namespace") for overlay in tree.overlays}
    return {overlay: name for overlay, name in found.items() if name}
