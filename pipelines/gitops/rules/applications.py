"""Does each Application deploy something, from this repository or a pinned chart, within a project that allows it?"""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.environments import namespaces
from pipelines.gitops.tree import Document, Rendered, Tree, documents_of, kind_of, label, name_of

VERSION = re.compile(r"v?\d+\.\d+\.\d+([+-][\w.-]+)?")
KINDS = ("Application", "ApplicationSet")
GIVEN_PROJECT = "default"


def argo_files(tree: Tree) -> list[tuple[Path, Document]]:
    """Read every Application, ApplicationSet and AppProject, wherever it is written."""
    folders = ("argocd-root", "bootstrap", "policy")
    paths = [path for path in tree.yaml_files if path.relative_to(tree.root).parts[0] in folders]
    found = [(path, document) for path in paths for document in documents_of(path)]
    return [(path, document) for path, document in found if kind_of(document) in (*KINDS, "AppProject")]


def check_applications(tree: Tree, every: Sequence[Rendered]) -> Iterator[Finding]:
    """Check the Applications against the tree that they deploy, and against their projects."""
    found = argo_files(tree)
    rendered = {name_of(d): d for r in every for d in r.of_kind("AppProject")}
    projects = rendered or {name_of(document): document for _, document in found if kind_of(document) == "AppProject"}
    addresses: dict[str, str] = {}
    for path, document in found:
        file = tree.shown(path)
        if kind_of(document) == "AppProject":
            yield from _project(file, document)
            continue
        spec, where = _application_spec(document)
        yield from _membership(file, where, spec, projects)
        sources = [*([spec["source"]] if "source" in spec else []), *spec.get("sources", [])]
        if not sources:
            yield Finding(
                file, f"{where}.source", "is missing: the Application deploys nothing", "name repoURL and path or chart"
            )
        for source in sources:
            address = str(source.get("repoURL", ""))
            yield from _source(tree, file, where, source, document, every)
            if "chart" not in source and "{{" not in address:
                first = addresses.setdefault(address, file)
                if len(addresses) > 1 and first == file:
                    others = ", ".join(name for name in addresses if name != address)
                    what = f"is {address}, elsewhere {others}"
                    yield Finding(file, f"{where}.source.repoURL", what, "one repository: make gitops-configure REPO=…")
    yield from _reached(tree, found)


def _application_spec(document: Document) -> tuple[Mapping[str, Any], str]:
    spec = document.get("spec", {})
    if kind_of(document) == "ApplicationSet":
        return (spec.get("template") or {}).get("spec") or {}, f"{label(document)}.spec.template.spec"
    return spec, f"{label(document)}.spec"


def _project(file: str, document: Document) -> Iterator[Finding]:
    spec, where = document["spec"], label(document)
    for field in ("sourceRepos", "destinations"):
        if not spec.get(field):
            yield Finding(
                file, f"{where}.spec.{field}", "is missing: the project allows nothing", "list exactly what it may use"
            )
    if "*" in spec.get("sourceRepos", []):
        yield Finding(
            file, f"{where}.spec.sourceRepos", "allows every repository", "list exactly those that it deploys"
        )
    for number, destination in enumerate(spec.get("destinations", [])):
        if destination.get("namespace") == "*":
            yield Finding(
                file, f"{where}.spec.destinations[{number}]", "allows every namespace", "list exactly its own"
            )


def _membership(file: str, where: str, spec: Mapping[str, Any], projects: Mapping[str, Document]) -> Iterator[Finding]:
    name = str(spec.get("project", ""))
    if "{{" in name:
        what = "is templated: whoever can add a folder could choose the project"
        yield Finding(file, f"{where}.project", what, "write the project's name")
        return
    project = projects.get(name)
    if project is None:
        if name != GIVEN_PROJECT:
            there = ", ".join(sorted(projects)) or "none"
            yield Finding(
                file, f"{where}.project", f"names AppProject {name!r}, which is not there", f"there are: {there}"
            )
        return
    namespace = str(spec.get("destination", {}).get("namespace", ""))
    allowed = [str(d.get("namespace")) for d in project["spec"].get("destinations", [])]
    if namespace and "{{" not in namespace and not any(fnmatch(namespace, pattern) for pattern in allowed):
        what = f"{namespace} is no destination of project {name}: Argo CD refuses to sync"
        yield Finding(file, f"{where}.destination.namespace", what, f"the project allows: {', '.join(allowed)}")


def _source(
    tree: Tree, file: str, where: str, source: Mapping[str, Any], document: Document, every: Sequence[Rendered]
) -> Iterator[Finding]:
    if "chart" in source:
        if not VERSION.fullmatch(str(source.get("targetRevision", ""))):
            what = f"{source.get('targetRevision')!r} is no version of chart {source['chart']}"
            yield Finding(file, f"{where}.source.targetRevision", what, "pin the chart to one version, such as 1.2.3")
        return
    path = str(source.get("path", ""))
    if not path:
        if "ref" not in source:
            yield Finding(
                file, f"{where}.source.path", "is missing", "name the folder to deploy, from the repository's root"
            )
        return
    if "{{" in path:
        yield from _generated(tree, file, document)
        return
    folder = tree.root.parent / Path(path).relative_to(tree.root.name) if path.startswith(tree.root.name) else None
    folder = tree.root / Path(path).relative_to(Path(path).parts[0]) if folder is None else tree.root.parent / path
    if not folder.is_dir():
        yield Finding(
            file, f"{where}.source.path", f"names {path}, which does not exist", "name a folder of this repository"
        )
        return
    built = next((r for r in every if r.folder.resolve() == folder.resolve()), None)
    plain = [d for p in sorted(folder.rglob("*.yaml")) for d in documents_of(p) if kind_of(d) != "Kustomization"]
    if (built is not None and not built.documents) or not plain:
        yield Finding(
            file, f"{where}.source.path", f"{path} renders nothing: the Application is empty", "put manifests there"
        )


def _generated(tree: Tree, file: str, document: Document) -> Iterator[Finding]:
    """Check that the generators of an ApplicationSet find folders of this tree."""
    spec = document["spec"]
    if not spec.get("goTemplate") or "missingkey=error" not in spec.get("goTemplateOptions", []):
        what = "lets a misspelled key render as nothing"
        mend = 'set goTemplate: true and goTemplateOptions: ["missingkey=error"]'
        yield Finding(file, f"{label(document)}.spec.goTemplateOptions", what, mend)
    for number, generator in enumerate(spec.get("generators", [])):
        for entry in (generator.get("git") or {}).get("directories", []):
            pattern = str(entry.get("path", ""))
            relative = pattern.partition("/")[2] if pattern.startswith(f"{tree.root.name}/") else pattern
            if not entry.get("exclude") and not any(path.is_dir() for path in tree.root.glob(relative)):
                field = f"{label(document)}.spec.generators[{number}].git.directories"
                yield Finding(
                    file, field, f"{pattern} finds no folder", "name the overlays: gitops/apps/APP/overlays/*"
                )


def _reached(tree: Tree, found: Sequence[tuple[Path, Document]]) -> Iterator[Finding]:
    """Check that every overlay is deployed by something, and its namespace allowed by some project."""
    patterns: list[str] = []
    for _, document in found:
        if kind_of(document) == "ApplicationSet":
            for generator in document["spec"].get("generators", []):
                patterns += [str(e["path"]) for e in (generator.get("git") or {}).get("directories", []) if "path" in e]
                patterns += [str(v) for e in (generator.get("list") or {}).get("elements", []) for v in e.values()]
        elif kind_of(document) == "Application":
            spec = document["spec"]
            patterns += [str(s.get("path", "")) for s in [spec.get("source", {}), *spec.get("sources", [])]]
    allowed = [
        str(destination.get("namespace"))
        for _, document in found
        if kind_of(document) == "AppProject"
        for destination in document["spec"].get("destinations", [])
    ]
    for overlay, namespace in namespaces(tree).items():
        path = tree.shown(overlay)
        if not any(fnmatch(path, pattern) or pattern in (overlay.name, path) for pattern in patterns):
            yield Finding(path, "", "no Application deploys this overlay", "add it to a generator in bootstrap/apps/")
        if allowed and not any(fnmatch(namespace, pattern) for pattern in allowed):
            file = f"{path}/kustomization.yaml"
            what = f"{namespace} is no destination of any AppProject: Argo CD refuses to sync"
            yield Finding(file, "namespace", what, "add it to the destinations of the application's project")
