"""Are the texts that only Argo CD reads ones that it can read: durations, windows, the templates of ApplicationSets?"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.gitops.findings import Finding
from pipelines.gitops.rules.applications import SYNC_OPTIONS
from pipelines.gitops.rules.cron import is_no_zone, schedule_fault
from pipelines.gitops.tree import Document, Rendered, Tree, kind_of, label, name_of, walk

ARGO_CD = "argocd"
OPTIONS = "argocd.argoproj.io/sync-options"
DURATION = re.compile(r"\d+|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+")
ACTION = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
# https://argo-cd.readthedocs.io/en/stable/operator-manual/applicationset/Generators-Git/
GIT_KEYS = {
    *("path", "path.path", "path.basename", "path.basenameNormalized", "path.segments", "path.filename"),
    *("path.filenameNormalized", "values"),
}


def check_syncing(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check Applications, ApplicationSets and AppProjects of one build."""
    for document in rendered.documents:
        yield from _options(tree.shown(rendered.file_of(document)), document)
    for document in rendered.of_kind("Application", "ApplicationSet", "AppProject"):
        file = tree.shown(rendered.file_of(document))
        for field, value in walk(document.get("spec", {}), f"{label(document)}.spec"):
            if field.endswith((".backoff.duration", ".backoff.maxDuration")) and not DURATION.fullmatch(str(value)):
                yield Finding(file, field, f"{value!r} is no duration: Argo CD refuses it", "write 10s or 3m")
        if document["metadata"].get("namespace") != ARGO_CD:
            what = f"is {document['metadata'].get('namespace')}, where Argo CD does not look"
            yield Finding(file, f"{label(document)}.metadata.namespace", what, f"write {ARGO_CD}")
        if kind_of(document) == "Application":
            yield from _application(tree, file, document)
        if kind_of(document) == "AppProject":
            yield from _windows(file, document)
            yield from _kinds(file, document)
        elif kind_of(document) == "ApplicationSet":
            yield from _templates(file, document)
            yield from _destination(file, document, rendered.of_kind("AppProject"))


def _options(file: str, document: Document) -> Iterator[Finding]:
    """Check the options of one object, and that no Namespace goes with a file that went missing."""
    text = str((document["metadata"].get("annotations") or {}).get(OPTIONS, ""))
    where = f"{label(document)}.metadata.annotations[{OPTIONS}]"
    pairs = dict(pair.strip().partition("=")[::2] for pair in text.split(",") if pair.strip())
    for name, value in pairs.items():
        if name not in SYNC_OPTIONS or value not in ("true", "false", "confirm"):
            what = f"{name}={value} is no option, and Argo CD ignores it"
            yield Finding(file, where, what, f"NAME=true, false or confirm; one of: {', '.join(sorted(SYNC_OPTIONS))}")
    if kind_of(document) == "Namespace" and pairs.get("Prune") not in ("false", "confirm"):
        what = "does not say Prune=confirm: a file that goes missing takes the namespace with it, and all that is there"
        yield Finding(file, where, what, "add Prune=confirm")


def _application(tree: Tree, file: str, document: Document) -> Iterator[Finding]:
    """Check where an Application goes, and that the values that it hands to charts are files of this tree."""
    spec, where = document["spec"], f"{label(document)}.spec"
    if {"server", "name"} <= set(spec.get("destination") or {}):
        what = "has server and name of a cluster: Argo CD refuses it"
        yield Finding(file, f"{where}.destination", what, "keep server")
    sources = spec.get("sources", [])
    known = {f"${source['ref']}" for source in sources if "ref" in source}
    for name in (str(name) for source in sources for name in (source.get("helm") or {}).get("valueFiles", [])):
        reference, _, path = name.partition("/")
        if reference not in known:
            what = f"{name} begins with no ref of a source"
            yield Finding(file, f"{where}.sources.helm.valueFiles", what, f"there are: {', '.join(sorted(known))}")
        elif not (tree.root.parent / path).is_file():
            what = f"names {path}, which does not exist"
            yield Finding(file, f"{where}.sources.helm.valueFiles", what, "name a file of this repository")


def _kinds(file: str, document: Document) -> Iterator[Finding]:
    for field in ("clusterResourceWhitelist", "namespaceResourceWhitelist"):
        if any(entry.get("kind") == "*" for entry in document["spec"].get(field, [])):
            what = "allows every kind, also those that give rights"
            yield Finding(file, f"{label(document)}.spec.{field}", what, "list exactly those that it deploys")


def _windows(file: str, document: Document) -> Iterator[Finding]:
    for number, window in enumerate(document["spec"].get("syncWindows", [])):
        where = f"{label(document)}.spec.syncWindows[{number}]"
        if fault := schedule_fault(str(window.get("schedule", ""))):
            yield Finding(file, f"{where}.schedule", f"{window.get('schedule')!r} {fault}", "correct the field")
        if not DURATION.fullmatch(str(window.get("duration", ""))) or str(window["duration"]).isdecimal():
            what = f"{window.get('duration')!r} is no duration: Argo CD refuses the project"
            yield Finding(file, f"{where}.duration", what, "write hours and minutes, such as 60h or 1h30m")
        if "timeZone" in window and is_no_zone(str(window["timeZone"])):
            what = f"{window['timeZone']!r} is no time zone"
            yield Finding(file, f"{where}.timeZone", what, "write a name of the tz database, such as Europe/Berlin")
        if not {"applications", "namespaces", "clusters"} & set(window):
            what = "names no applications, namespaces or clusters, and so does nothing"
            yield Finding(file, where, what, "name the namespaces that it is for")


def _templates(file: str, document: Document) -> Iterator[Finding]:
    """Check Go templates: every action closed, every key one that the generators give."""
    spec, where = document["spec"], f"{label(document)}.spec"
    if "{{" not in str(spec.get("template", {}).get("metadata", {}).get("name", "")):
        what = "is the same for everything that is generated: only one Application is made"
        yield Finding(file, f"{where}.template.metadata.name", what, "put what differs into it: {{ .path.basename }}")
    if (spec.get("syncPolicy") or {}).get("applicationsSync") not in ("create-only", "create-update"):
        what = "is not create-update: a folder that goes missing takes the Application and all of its objects with it"
        yield Finding(file, f"{where}.syncPolicy.applicationsSync", what, "set it to create-update")
    generators = spec.get("generators", [])
    known = GIT_KEYS if any("git" in generator for generator in generators) else set[str]()
    for generator in generators:
        known |= {str(key) for element in (generator.get("list") or {}).get("elements", []) for key in element}
    if any(not {"git", "list"} & set(generator) for generator in generators):
        known = set()  # what the others give depends on clusters and providers
    for field, value in walk(document["spec"].get("template", {}), f"{label(document)}.spec.template"):
        if not isinstance(value, str) or ("{{" not in value and "}}" not in value):
            continue
        if "{{" in ACTION.sub("", value) or "}}" in ACTION.sub("", value):
            yield Finding(file, field, f"{value!r} has an action that is not closed", "write {{ and }} in pairs")
            continue
        for action in ACTION.findall(value):
            yield from _action(file, field, re.sub(r'"[^"]*"|`[^`]*`', "", action), known)


def _action(file: str, field: str, action: str, known: set[str]) -> Iterator[Finding]:
    if bare := re.search(r"(?<![.\w$])(path|values|name|server)\b(?![\w(])", action):
        what = f"{{{{{action.strip()}}}}} has {bare[1]} without a dot, which Go templates take for a function"
        yield Finding(file, field, what, f"write .{bare[1]}")
    for key in re.findall(r"(?<![\w)\]])\.([A-Za-z_][\w.]*)", action):
        if known and key not in known and not key.startswith("values."):
            what = f"reads .{key}, which no generator gives: no Application is made"
            yield Finding(file, field, what, f"there are: {', '.join(f'.{name}' for name in sorted(known))}")


def _destination(file: str, document: Document, projects: Sequence[Document]) -> Iterator[Finding]:
    """Check that what a templated namespace begins with can be one of the project's."""
    spec: dict[str, Any] = document["spec"].get("template", {}).get("spec", {})
    namespace = str((spec.get("destination") or {}).get("namespace", ""))
    fixed = namespace.partition("{{")[0]
    project = next((p for p in projects if name_of(p) == spec.get("project")), None)
    if project is None or "{{" not in namespace:
        return
    allowed = [str(d.get("namespace")) for d in project["spec"].get("destinations", [])]
    literal = [pattern.partition("*")[0] for pattern in allowed]
    if not any(one.startswith(fixed) or fixed.startswith(one) for one in literal):
        what = f"{namespace} is no destination of project {name_of(project)}: Argo CD refuses to sync"
        where = f"{label(document)}.spec.template.spec.destination.namespace"
        yield Finding(file, where, what, f"the project allows: {', '.join(allowed)}")
