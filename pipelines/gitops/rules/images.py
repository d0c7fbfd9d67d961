"""Is every image pinned, by a tag that never moves or a digest, and is a digest one image's only?"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Rendered, Tree
from pipelines.gitops.workloads import workloads_in

OURS = ("inference", "training")
TAG = re.compile(r"(main|develop)-[0-9a-f]{7,40}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NOTHING_YET = re.compile(r"(main|develop)-0{7,40}")
"""What a fresh repository has: as git does, it writes a commit that does not exist as zeros. No registry has it."""
MOVING = re.compile(r"(latest|stable|edge|main|master|develop|dev|prod|production|staging|nightly|v?\d+(\.\d+)?)")


@dataclass(frozen=True)
class Reference:
    """`registry/path/name:tag@digest`, taken apart."""

    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        return self.repository.rpartition("/")[2]


def parse_reference(image: str) -> Reference:
    """Take an image apart; a port is no tag.

    >>> parse_reference("localhost:5000/training:main-1a2b3c4")
    Reference(repository='localhost:5000/training', tag='main-1a2b3c4', digest='')
    """
    rest, _, digest = image.partition("@")
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return Reference(rest, "", digest)
    return Reference(head, tag, digest)


def tag_fault(name: str, tag: str) -> tuple[str, str] | None:
    """Say what is wrong with a tag of an image, and the mend; None when it is good."""
    if name in OURS:
        if TAG.fullmatch(tag):
            return None
        what = f"{tag!r} is no tag of a commit" if not MOVING.fullmatch(tag) else f"{tag!r} is a tag that moves"
        mend = "use main-<sha> or develop-<sha>: python -m pipelines.promote image --env ENV --tag main-<sha>"
        return what, mend
    if not tag or MOVING.fullmatch(tag):
        return (
            f"{tag!r} is a tag that moves" if tag else "has no tag, which means latest",
            "name one version, or add a digest",
        )
    return None


def check_images(tree: Tree, rendered: Rendered) -> Iterator[Finding]:
    """Check the images of one rendered overlay."""
    for workload in workloads_in(rendered):
        file = tree.shown(rendered.file_of(workload.document))
        for path, container in workload.containers:
            image = str(container.get("image", ""))
            reference = parse_reference(image)
            where = f"{path}.image"
            if container.get("imagePullPolicy") == "Never":
                what = "is Never: a node that has not got the image by other means never starts the pod"
                yield Finding(file, f"{path}.imagePullPolicy", what, "write IfNotPresent: tags here do not move")
            if not image:
                yield Finding(file, where, "is missing", "name the image")
            elif reference.digest and not DIGEST.fullmatch(reference.digest):
                what = f"{reference.digest!r} is no digest"
                yield Finding(file, where, what, "a digest is sha256: and 64 hexadecimal digits")
            elif reference.name in OURS and not reference.tag and not reference.digest:
                yield Finding(
                    tree.shown(rendered.file),
                    where,
                    f"{image!r} has no tag and no digest: `images:` does not reach it",
                    "list its image path in the file under `configurations:`, and its name under `images:`",
                )
            elif (not reference.digest or reference.tag) and (fault := tag_fault(reference.name, reference.tag)):
                yield Finding(tree.shown(rendered.file) if reference.name in OURS else file, where, *fault)
            elif reference.name in OURS and "/" not in reference.repository:
                what = f"{image!r} names no registry"
                yield Finding(tree.shown(rendered.file), where, what, "give images: a newName with your registry")
            elif _is_untested(rendered, reference):
                what = f"{reference.tag} is of another branch than main, and production does not pin what staging ran"
                mend = (
                    "promote main-<sha>, or what staging runs: python -m pipelines.promote staging production --verify"
                )
                yield Finding(tree.shown(rendered.file), where, what, mend)


def _is_untested(rendered: Rendered, reference: Reference) -> bool:
    is_ours = reference.name in OURS and not NOTHING_YET.fullmatch(reference.tag)
    return (
        rendered.folder.name == "production"
        and is_ours
        and not reference.tag.startswith("main-")
        and not reference.digest
    )


def check_digests(tree: Tree, every: Sequence[Rendered]) -> Iterator[Finding]:
    """Check that one digest stands for one image and tag in the whole tree: builds of two commits never share one."""
    first: dict[str, tuple[str, str, str]] = {}
    for rendered in every:
        for image in rendered.kustomization.get("images", []):
            digest, name, tag = str(image.get("digest", "")), str(image.get("name")), str(image.get("newTag", ""))
            file = tree.shown(rendered.file)
            if not digest:
                continue
            if not DIGEST.fullmatch(digest):
                yield Finding(
                    file, f"images[{name}].digest", f"{digest!r} is no digest", "sha256: and 64 hexadecimal digits"
                )
                continue
            other_name, other_tag, other_file = first.setdefault(digest, (name, tag, file))
            if (name, tag) != (other_name, other_tag):
                yield Finding(
                    file,
                    f"images[{name}].digest",
                    f"is the digest of {other_name}:{other_tag} in {other_file}",
                    f"promote again with the digest that the registry gives for {name}:{tag}",
                )
