"""Write your repository, registry, account, region and buckets where they belong: `make gitops-configure REPO=… …`.

Each has one place in gitops/, from which kustomize carries it everywhere; this writes those places and nothing else.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pipelines.edge import run_app
from pipelines.errors import UsageError
from pipelines.gitops.editing import compose, field, read_exact, scalar, write_exact
from pipelines.gitops.forms import FORMS
from pipelines.gitops.tree import read_kustomization

ROOT = Path(__file__).resolve().parents[2] / "gitops"
ROOT_APPLICATION = "argocd-root/root-application.yaml"
REGISTRY_DEFAULTS = "config/defaults/image-registry.yaml"
ENVIRONMENTS = "config/environments"
MAX_BUCKET_NAME = 63
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Edit:
    """One value to write: `field` is a dotted path in the file."""

    file: Path
    field: str
    value: str


def planned_edits(
    root: Path, *, repo: str = "", registry: str = "", account: str = "", region: str = "", bucket: str = ""
) -> list[Edit]:
    """Say which value goes where; empty ones stay as they are. UsageError names every value that cannot be right."""
    given = {"REPO": repo, "REGISTRY": registry, "ACCOUNT": account, "REGION": region, "BUCKET": bucket}
    faults = [
        f"{name}={value!r} {FORMS[name][1]}"
        for name, value in given.items()
        if value and not re.fullmatch(FORMS[name][0], value)
    ]
    environments = sorted(path for path in (root / ENVIRONMENTS).glob("*.yaml") if path.name != "kustomization.yaml")
    if not environments:
        raise UsageError(f"{root / ENVIRONMENTS} has no environment; pass the folder of the tree: --root gitops")
    longest = max(len(f"{bucket}-{path.stem}") for path in environments)
    if bucket and longest > MAX_BUCKET_NAME:
        faults.append(f"BUCKET={bucket!r} gives names of {longest} characters; S3 takes {MAX_BUCKET_NAME}")
    listed = read_kustomization(root / "bootstrap").get("components", [])
    if repo and not repo.startswith("https://") and any(str(name).endswith("signed-images") for name in listed):
        faults.append(
            f"REPO={repo!r} tells policy/signed-images no OWNER/REPO of a signer; give https://HOST/OWNER/REPO"
        )
    if faults:
        raise UsageError("; ".join(faults))
    host, _, prefix = registry.partition("/")
    wanted = [
        Edit(root / ROOT_APPLICATION, "spec.source.repoURL", repo),
        Edit(root / REGISTRY_DEFAULTS, "baseURL", host),
        Edit(root / REGISTRY_DEFAULTS, "repoPrefix", prefix),
    ]
    for path in environments:
        wanted += [
            Edit(path, "aws.accountId", account),
            Edit(path, "aws.region", region),
            Edit(path, "lake.bucket", f"{bucket}-{path.stem}" if bucket else ""),
        ]
    return [edit for edit in wanted if edit.value]


def apply(edit: Edit) -> str:
    """Replace one scalar where it stands, every other byte kept; gives the value that was there."""
    text = read_exact(edit.file)
    node = compose(edit.file, text)
    for key in edit.field.split("."):
        node = field(node, key)
    if not isinstance(node, yaml.ScalarNode):
        raise UsageError(
            f"{edit.file} has no field {edit.field}; restore the file, `git diff` shows what changed in it"
        )
    # digits alone would be read as a number
    written = f'"{edit.value}"' if edit.value.isdecimal() else edit.value
    write_exact(edit.file, text[: node.start_mark.index] + written + text[node.end_mark.index :])
    old: str = node.value
    return old


@app.command()
def main(
    repo: Annotated[str, typer.Option(help="Address of the repository that Argo CD reads.")] = "",
    registry: Annotated[str, typer.Option(help="HOST/PREFIX of the images inference and training.")] = "",
    account: Annotated[str, typer.Option(help="AWS account of the IAM roles, in every environment.")] = "",
    region: Annotated[str, typer.Option(help="AWS region, in every environment.")] = "",
    bucket: Annotated[str, typer.Option(help="Stem of the lakes' buckets: STEM-production, STEM-staging.")] = "",
    root: Annotated[Path, typer.Option(help="Folder of the tree.")] = ROOT,
) -> None:
    """Write what is given and leave the rest; prints each change."""
    edits = planned_edits(root, repo=repo, registry=registry, account=account, region=region, bucket=bucket)
    if not edits:
        raise UsageError("nothing to write; give at least one of REPO, REGISTRY, ACCOUNT, REGION, BUCKET")
    for edit in edits:
        old = apply(edit)
        print(f"{edit.file.relative_to(root.parent)}  {edit.field}: {old} -> {edit.value}")
    if registry and "/" not in registry:
        prefix = scalar(field(compose(root / REGISTRY_DEFAULTS, read_exact(root / REGISTRY_DEFAULTS)), "repoPrefix"))
        print(f"REGISTRY has no prefix, repoPrefix stays: {registry}/{prefix}/inference; REGISTRY=HOST/PREFIX sets it")
    print("commit and push these files: Argo CD reads them from the repository")


if __name__ == "__main__":
    run_app(app)
