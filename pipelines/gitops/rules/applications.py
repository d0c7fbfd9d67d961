"""Does each Application deploy something, from this repository or a pinned chart, within a project that allows it?"""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.environments import CLUSTER_WIDE, namespaces
from pipelines.gitops.tree import KUSTOMIZATION, Document, Rendered, Tree, documents_of, kind_of, label, name_of

VERSION = re.compile(r"v?\d+\.\d+\.\d+([+-][\w.-]+)?")
KINDS = ("Application", "ApplicationSet")
SYNC_OPTIONS = {
    "ApplyOutOfSyncOnly",
    "ClientSideApplyMigration",
    "CreateNamespace",
    "Delete",
    "FailOnSharedResource",
    "Force",
    "Prune",
    "PruneLast",
    "PrunePropagationPolicy",
    "Replace",
    "RespectIgnoreDifferences",
    "ServerSideApply",
    "SkipDryRunOnMissingResource",
    "Validate",
}
GIVEN_PROJECT = "default"


def argo_objects(tree: Tree, every: Sequence[Rendered]) -> list[tuple[str, Document]]:
    """Give every Application, ApplicationSet and AppProject as it is applied, with the file that it comes from."""
    found: dict[str, tuple[str, Document]] = {}
    for rendered in every:
        for document in rendered.of_kind(*KINDS, "AppProject"):
            found.setdefault(label(document), (tree.shown(rendered.file_of(document)), document))
    return list(found.values())


def check_applications(tree: Tree, every: Sequence[Rendered]) -> Iterator[Finding]:
    """Check the Applications against the tree that they deploy, and against their projects."""
    found = argo_objects(tree, every)
    projects = {name_of(document): document for _, document in found if kind_of(document) == "AppProject"}
    addresses: dict[str, str] = {}
    for file, document in found:
        if kind_of(document) == "AppProject":
            yield from _project(file, document)
            continue
        spec, where = _application_spec(document)
        yield from _membership(file, where, spec, projects)
        sources = [*([spec["source"]] if "source" in spec else []), *spec.get("sources", [])]
        if not sources:
            what = "is missing: the Application deploys nothing"
            yield Finding(file, f"{where}.source", what, "name repoURL and path or chart")
        for source in sources:
            address = str(source.get("repoURL", ""))
            project = projects.get(str(spec.get("project")))
            allowed = project["spec"].get("sourceRepos", []) if project else [address]
            if address not in allowed and not any(fnmatch(address, pattern) for pattern in allowed):
                what = f"is {address}, which project {spec.get('project')} does not allow: Argo CD refuses to sync"
                mend = f"add it to sourceRepos of the project; there are: {', '.join(allowed) or 'none'}"
                yield Finding(file, f"{where}.source.repoURL", what, mend)
            yield from _source(tree, file, where, source, document, every)
            if "chart" not in source and addresses.setdefault(address, file) == file and len(addresses) > 1:
                others = ", ".join(name for name in addresses if name != address)
                what = f"is {address}, elsewhere {others}"
                yield Finding(file, f"{where}.source.repoURL", what, "one repository: make gitops-configure REPO=…")
        yield from _sync_options(file, where, spec)
    yield from _reached(tree, found)
    yield from _kinds(tree, found, projects, every)


def _sync_options(file: str, where: str, spec: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the names: Argo CD ignores an option that it does not know."""
    for option in (spec.get("syncPolicy") or {}).get("syncOptions", []):
        if str(option).partition("=")[0] not in SYNC_OPTIONS:
            what = f"{option} is no option, and Argo CD ignores it"
            yield Finding(file, f"{where}.syncPolicy.syncOptions", what, f"one of: {', '.join(sorted(SYNC_OPTIONS))}")


def _kinds(
    tree: Tree, found: Sequence[tuple[str, Document]], projects: Mapping[str, Document], every: Sequence[Rendered]
) -> Iterator[Finding]:
    """Check that the project of what deploys a folder allows every kind in it."""
    for _, document in found:
        spec, _ = _application_spec(document) if kind_of(document) != "AppProject" else ({}, "")
        project = projects.get(str(spec.get("project")))
        patterns = _patterns(document) if project else []
        for rendered in every:
            if project is None or not any(fnmatch(tree.shown(rendered.folder), pattern) for pattern in patterns):
                continue
            for one in rendered.documents:
                if not _allows(project, one):
                    kind = f"{one['apiVersion'].rpartition('/')[0] or 'core'}/{kind_of(one)}"
                    what = f"{kind} is not allowed by project {name_of(project)}: Argo CD refuses to sync"
                    mend = f"add it to the whitelists of AppProject {name_of(project)}, or remove the object"
                    yield Finding(tree.shown(rendered.file_of(one)), label(one), what, mend)


def _allows(project: Document, document: Document) -> bool:
    """A list that is missing allows every namespaced kind, and no cluster-wide one."""
    spec, is_cluster_wide = project["spec"], kind_of(document) in CLUSTER_WIDE
    allowed = spec.get("clusterResourceWhitelist" if is_cluster_wide else "namespaceResourceWhitelist")
    if allowed is None:
        return not is_cluster_wide
    group = str(document["apiVersion"]).rpartition("/")[0]
    return any(
        fnmatch(group, entry["group"])
        and fnmatch(kind_of(document), entry["kind"])
        and fnmatch(name_of(document), entry.get("name", "*"))
        for entry in allowed
    )


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
    if built is None and (folder / KUSTOMIZATION).is_file():
        return  # it does not build, which is a finding of its own
    plain = [
        document for found in sorted(folder.rglob("*.yaml")) for document in documents_of(found) if kind_of(document)
    ]
    if not (built.documents if built else plain):
        what = f"{path} renders nothing: the Application is empty"
        yield Finding(file, f"{where}.source.path", what, "put manifests there")


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


def _reached(tree: Tree, found: Sequence[tuple[str, Document]]) -> Iterator[Finding]:
    """Check that every overlay is deployed by something, and its namespace allowed by some project."""
    patterns = [pattern for _, document in found for pattern in _patterns(document)]
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


def _patterns(document: Document) -> list[str]:
    """Give the folders that an Application or ApplicationSet deploys, as patterns."""
    spec = document["spec"]
    if kind_of(document) == "Application":
        return [
            str(source["path"]) for source in [spec.get("source", {}), *spec.get("sources", [])] if "path" in source
        ]
    found = []
    for generator in spec.get("generators", []):
        found += [str(e["path"]) for e in (generator.get("git") or {}).get("directories", []) if not e.get("exclude")]
        found += [str(value) for e in (generator.get("list") or {}).get("elements", []) for value in e.values()]
    return found
