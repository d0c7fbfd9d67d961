"""Check every manifest below gitops/: style, builds, schemas, and the rules that schemas lack.

    python -m pipelines.gitops.validate [--root gitops] [--crd-schemas DIR]

Exits with 1 when something is found: each finding names the file, the field, what is wrong and the mend. Nothing here
asks the network or a cluster.
"""

import os
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import yaml
from hera.workflows import models as argo
from pydantic import ValidationError

from pipelines.edge import run_app
from pipelines.gitops.building import build_all
from pipelines.gitops.components import build_components
from pipelines.gitops.findings import Finding
from pipelines.gitops.patches import check_patches, unlisted_files
from pipelines.gitops.rules.admission import check_admission, check_bound
from pipelines.gitops.rules.applications import check_applications
from pipelines.gitops.rules.environments import (
    check_environments,
    check_namespaces,
    check_placeholders,
    check_roles,
    check_shared,
    check_values,
    check_waves,
)
from pipelines.gitops.rules.executor import check_executor
from pipelines.gitops.rules.images import NOTHING_YET, check_digests, check_images
from pipelines.gitops.rules.names import check_names
from pipelines.gitops.rules.networks import check_networks
from pipelines.gitops.rules.pods import check_pods
from pipelines.gitops.rules.quotas import check_quotas
from pipelines.gitops.rules.references import check_references, check_stores
from pipelines.gitops.rules.refusals import check_refusals
from pipelines.gitops.rules.restricted import check_restricted
from pipelines.gitops.rules.scaling import check_scaling
from pipelines.gitops.rules.secrets import check_files, check_secrets
from pipelines.gitops.rules.syncing import check_syncing
from pipelines.gitops.rules.wiring import check_wiring
from pipelines.gitops.rules.workflows import check_workflows
from pipelines.gitops.schemas import Schemas, read_schemas
from pipelines.gitops.style import check_style
from pipelines.gitops.tree import KUSTOMIZATION, Rendered, Tree, documents_of, kind_of, label
from pipelines.gitops.workloads import WORKFLOW_KINDS

REPOSITORY = Path(__file__).resolve().parents[2]
SIBLING = REPOSITORY.parent / "shared/crds"
CRD_VARIABLE = "CRD_SCHEMAS"

RULES = (
    check_names,
    check_references,
    check_workflows,
    check_executor,
    check_images,
    check_pods,
    check_quotas,
    check_refusals,
    check_restricted,
    check_scaling,
    check_networks,
    check_wiring,
    check_admission,
    check_syncing,
    check_placeholders,
    check_roles,
    check_secrets,
)

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Validation:
    """What was found, and what was looked at."""

    findings: list[Finding]
    rendered: list[Rendered]
    n_files: int
    unchecked: list[str]
    """custom kinds for which there was no schema"""


def validate(root: Path, crd_schemas: Path | None, only: Collection[str] = ()) -> Validation:
    """Check a whole tree, or of what is rendered `only` some folders, given relative to the tree.

    Files that are no YAML are all that is reported when there are any: nothing builds then.
    """
    tree, schemas = Tree(root), read_schemas(crd_schemas)
    style = sorted(check_style(tree))
    if any(finding.what.endswith("(syntax)") for finding in style):
        return Validation(style, [], len(tree.yaml_files), [])
    chosen = [path for path in tree.kustomized if not only or str(path.relative_to(root)) in only]
    rendered, failed = build_all(tree, chosen)
    with_components, failed_components = build_components(tree, only)
    found = [*style, *failed, *failed_components]
    for one in [*rendered, *with_components]:
        for findings in check_rendered(tree, one, schemas):
            _collect(findings, found)
    seen: set[Path] = set()
    for one in rendered:
        _collect(check_patches(tree, one), found)
        _collect(unlisted_files(tree, one, seen), found)
    _collect(check_digests(tree, rendered), found)
    if not only:
        _collect(check_stores(tree, [*rendered, *with_components]), found)
    _collect(check_bound(tree, rendered), found)
    _collect(check_environments(tree), found)
    _collect(check_shared(tree), found)
    _collect(check_values(tree), found)
    _collect(check_namespaces(tree, rendered), found)
    _collect(check_waves(tree, rendered), found)
    if not only or "bootstrap" in only:
        _collect(check_applications(tree, rendered), found)
    _collect(check_files(tree), found)
    _collect(_plain_files(tree, schemas), found)
    return Validation(sorted(set(found)), rendered, len(tree.yaml_files), sorted(schemas.unknown))


def _collect(findings: Iterable[Finding], found: list[Finding]) -> None:
    """Add findings. A rule may stumble over an object that is malformed, and was found to be; else it is a bug."""
    try:
        for finding in findings:
            found.append(finding)
    except (AttributeError, KeyError, TypeError, ValueError):
        if not found:
            raise


def check_rendered(tree: Tree, rendered: Rendered, schemas: Schemas) -> Iterator[Iterable[Finding]]:
    """Check the objects of one build, each by itself, then against the others."""
    for document in rendered.documents:
        file = tree.shown(rendered.file_of(document))
        yield schemas.check(document, file)
        if kind_of(document) in WORKFLOW_KINDS:
            yield _strict_hera(document, file)
    yield from (rule(tree, rendered) for rule in RULES)


def _strict_hera(document: dict[str, object], file: str) -> Iterator[Finding]:
    """Refuse fields that Argo's own definitions do not have; works without any schema folder."""
    try:
        getattr(argo, kind_of(document)).model_validate(document, extra="forbid")
    except ValidationError as error:
        for fault in error.errors():
            path = ".".join(str(part) for part in fault["loc"])
            yield Finding(file, f"{label(document)}.{path}", fault["msg"], "correct the field; Argo drops it silently")


def _plain_files(tree: Tree, schemas: Schemas) -> Iterator[Finding]:
    """Check what is applied by hand, outside every kustomization: the root Application."""
    for path in sorted((tree.root / "argocd-root").glob("*.yaml")):
        if path.name != KUSTOMIZATION:
            for document in documents_of(path):
                yield from schemas.check(document, tree.shown(path))


@app.command()
def main(
    root: Annotated[Path, typer.Option(help="The folder that holds apps/, bootstrap/, config/ …")] = REPOSITORY
    / "gitops",
    crd_schemas: Annotated[
        Path | None,
        typer.Option(help=f"Schemas or CRDs of custom kinds; ${CRD_VARIABLE}, or ../shared/crds where that is there."),
    ] = None,
) -> None:
    """Validate the manifests; exit 1 when something is wrong with them."""
    started = time.monotonic()
    folder = crd_schemas or (Path(os.environ[CRD_VARIABLE]) if os.environ.get(CRD_VARIABLE) else None)
    result = validate(root, folder or (SIBLING if SIBLING.is_dir() else None))
    for finding in result.findings:
        typer.echo(f"{finding}\n")
    for line in _summary(root, result):
        typer.echo(line)
    n = len(result.findings)
    typer.echo(f"{n or 'no'} finding{'' if n == 1 else 's'} in {time.monotonic() - started:.1f} s")
    raise typer.Exit(1 if result.findings else 0)


def _summary(root: Path, result: Validation) -> Iterator[str]:
    for one in result.rendered:
        size = len(yaml.safe_dump_all(one.documents).encode())
        yield f"{one.folder.relative_to(root)!s:<58} {len(one.documents):>3} objects {size / 1024:>6.1f} KiB"
    waiting = [
        f"{one.folder.relative_to(root)}: {image['name']}"
        for one in result.rendered
        for image in one.kustomization.get("images", [])
        if NOTHING_YET.fullmatch(str(image.get("newTag", "")))
    ]
    if waiting:
        yield f"no image promoted yet (python -m pipelines.promote image …): {', '.join(waiting)}"
    if result.unchecked:
        yield f"not checked against a schema, for want of one ({CRD_VARIABLE}): {', '.join(result.unchecked)}"
    n_objects = sum(len(one.documents) for one in result.rendered)
    yield f"{result.n_files} files, {len(result.rendered)} builds, {n_objects} objects"


if __name__ == "__main__":
    run_app(app)
