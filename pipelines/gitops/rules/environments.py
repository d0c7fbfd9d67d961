"""Do configuration, overlays and namespaces agree: each environment in both, each object in the documented place?"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.forms import FORMS
from pipelines.gitops.rules.names import wave_of
from pipelines.gitops.tree import (
    KUSTOMIZATION,
    Document,
    Rendered,
    Tree,
    documents_of,
    kind_of,
    label,
    name_of,
    read_kustomization,
    walk,
)

SUFFIX = {"production": "prod", "staging": "staging"}
PREFIX = {"ml-recommendation-inference": "ml-inference", "ml-training-workflow-circle": "ml-training"}
ROLE = "eks.amazonaws.com/role-arn"
ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
PLACEHOLDERS = ("repository", "revision", "region", "account", "bucket")
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


def check_shared(tree: Tree) -> Iterator[Finding]:
    """Check that no environment has the bucket or a role of another: staging would write production's lake."""
    first: dict[tuple[str, str], str] = {}
    for path in sorted((tree.root / "config/environments").glob("*.yaml")):
        document = next(iter(documents_of(path)), {}) if path.name != KUSTOMIZATION else {}
        for part, key in (("lake", "bucket"), ("inference", "role"), ("training", "role")):
            value = _inner(document, part, key)
            other = first.setdefault((key, str(value)), path.stem) if value else path.stem
            if other != path.stem:
                what = f"{value} is that of {other}, too: what one environment writes the other serves"
                yield Finding(tree.shown(path), f"{part}.{key}", what, f"give each environment a {key} of its own")


def check_values(tree: Tree) -> Iterator[Finding]:
    """Check account, region and bucket of each environment, and the registry, by what `make gitops-configure` takes."""
    for path in sorted((tree.root / "config/environments").glob("*.yaml")):
        document = next(iter(documents_of(path)), {}) if path.name != KUSTOMIZATION else {}
        for part, key, name in (
            ("aws", "accountId", "ACCOUNT"),
            ("aws", "region", "REGION"),
            ("lake", "bucket", "BUCKET"),
        ):
            yield from _shape(tree.shown(path), f"{part}.{key}", _inner(document, part, key), name)
    path = tree.root / "config/defaults/image-registry.yaml"
    registry = next(iter(documents_of(path)), {}) if path.is_file() else {}
    if registry:
        address = f"{registry.get('baseURL', '')}/{registry.get('repoPrefix', '')}"
        yield from _shape(tree.shown(path), "baseURL/repoPrefix", address, "REGISTRY")


def _inner(document: Document, part: str, key: str) -> Any:
    holder = document.get(part)
    return holder.get(key) if isinstance(holder, dict) else None


def _shape(file: str, field: str, value: object, name: str) -> Iterator[Finding]:
    shape, what = FORMS[name]
    if value is not None and not re.fullmatch(shape, str(value)):
        yield Finding(file, field, f"{value!r} {what}", f"make gitops-configure {name}=… writes it")


def check_placeholders(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Find words that stand in files for what kustomize is to put there, and did not."""
    for document in rendered.documents:
        for field, value in walk(document, label(document)):
            if value in PLACEHOLDERS and isinstance(value, str):
                what = f"is still {value!r}: nothing was put in its place"
                mend = "add the field to the replacements of the kustomization"
                yield Finding(tree.shown(rendered.file_of(document)), field, what, mend)


def check_waves(tree: Tree, every: Sequence[Rendered]) -> Iterator[Finding]:
    """Check that a namespace is there before what goes into it."""
    for rendered in every:
        for namespace in rendered.of_kind("Namespace"):
            for document in rendered.documents:
                own, first = wave_of(document) or 0, wave_of(namespace) or 0
                if document["metadata"].get("namespace") == name_of(namespace) and own < first:
                    what = f"sync wave {own} is before its namespace's {first}"
                    mend = "give the namespace the lowest argocd.argoproj.io/sync-wave"
                    yield Finding(tree.shown(rendered.file_of(document)), label(document), what, mend)


def check_roles(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check that each role of IRSA is an ARN: pods get it as it is, and only AWS says no, at run time."""
    for document in rendered.documents:
        for field, value in walk(document, label(document)):
            if field.endswith(ROLE) and not ARN.fullmatch(str(value)):
                what = f"{value!r} is no ARN of a role"
                mend = "aws.accountId has 12 digits, and a role is named without its account"
                yield Finding(tree.shown(rendered.file_of(document)), field, what, mend)


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
