"""Read and edit the `images:` of an overlay, and nothing else of it: comments and order stay."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipelines.errors import UsageError
from pipelines.gitops.editing import compose, field, read_exact, scalar, with_field, without_field, write_exact
from pipelines.gitops.rules.images import DIGEST, NOTHING_YET, OURS, TAG
from pipelines.gitops.tree import KUSTOMIZATION

APPLICATIONS = {"inference": "ml-recommendation-inference", "training": "ml-training-workflow-circle"}


@dataclass(frozen=True)
class Pin:
    """What an overlay runs: a tag, and the digest that it had when it was promoted."""

    image: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.image}:{self.tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def is_nothing_yet(self) -> bool:
        return bool(NOTHING_YET.fullmatch(self.tag))


def overlay_folder(root: Path, image: str, environment: str) -> Path:
    """Give the overlay that deploys an image; UsageError when there is no such environment."""
    overlays = root / "apps" / APPLICATIONS[image] / "overlays"
    # by name and not by path: `production/` and `../overlays/production` are that folder, too
    names = sorted(path.parent.name for path in overlays.glob(f"*/{KUSTOMIZATION}"))
    if environment not in names:
        raise UsageError(f"{overlays} has no environment {environment!r}; there are: {', '.join(names) or 'none'}")
    return overlays / environment


def read_pin(overlay: Path, image: str) -> Pin:
    """Read what an overlay runs."""
    path = overlay / KUSTOMIZATION
    return _pin(_entry(path, read_exact(path), image))


def write_pin(overlay: Path, pin: Pin) -> None:
    """Set tag and digest; a digest that is not given is taken out, because it was another tag's."""
    path = overlay / KUSTOMIZATION
    text = read_exact(path)
    text = with_field(text, _entry(path, text, pin.image), "newTag", pin.tag, after="name")
    entry = _entry(path, text, pin.image)
    if pin.digest:
        text = with_field(text, entry, "digest", pin.digest, after="newTag")
    else:
        text = without_field(text, entry, "digest")
    write_exact(path, text)


def uncommitted(root: Path) -> list[Path]:
    """Give the files of the tree that differ from what is committed; none where there is no repository."""
    command = ["git", "-C", str(root), "status", "--porcelain", "-z", "--no-renames", "--", "."]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        top = subprocess.run(["git", "-C", str(root), "rev-parse", "--show-toplevel"], capture_output=True, text=True)
    except FileNotFoundError:
        return []
    if done.returncode:
        return []
    return [Path(top.stdout.strip()) / line[3:] for line in done.stdout.split("\0") if line]


def check_pin(root: Path, pin: Pin, environment: str) -> None:
    """Refuse what must not be deployed; UsageError says why and what to do."""
    if not TAG.fullmatch(pin.tag):
        raise UsageError(
            f"tag {pin.tag!r} is not of one commit; tags are main-<sha> or develop-<sha>, such as main-1a2b3c4, "
            "because a tag that moves would be another image tomorrow"
        )
    if pin.is_nothing_yet:
        raise UsageError(
            f"tag {pin.tag!r} stands for no image at all; push a commit, and take the tag that its build prints"
        )
    if environment == "production" and not pin.tag.startswith("main-"):
        raise UsageError(
            f"tag {pin.tag!r} is not of the main branch; production takes main-<sha>, "
            "or what staging runs: python -m pipelines.promote staging production"
        )
    check_digest(root, pin)


def check_digest(root: Path, pin: Pin) -> None:
    """Refuse a digest that is none, or that the tree knows as another image's; the registry is asked by `--verify`."""
    if not pin.digest:
        return
    if not DIGEST.fullmatch(pin.digest):
        raise UsageError(
            f"digest {pin.digest!r} is none; it is sha256: and 64 hexadecimal digits, as the build prints it"
        )
    for path in sorted(root.glob(f"apps/*/overlays/*/{KUSTOMIZATION}")):
        for other in map(_pin, _entries(path, read_exact(path))):
            if other.digest == pin.digest and (other.image, other.tag) != (pin.image, pin.tag):
                raise UsageError(
                    f"digest {pin.digest} is that of {other.image}:{other.tag} in {path}, not {pin.image}:{pin.tag}'s; "
                    "take the one that the build of this tag printed"
                )


def _entries(path: Path, text: str) -> list[yaml.MappingNode]:
    images = field(compose(path, text), "images")
    nodes = images.value if isinstance(images, yaml.SequenceNode) else []
    return [node for node in nodes if isinstance(node, yaml.MappingNode)]


def _pin(entry: yaml.MappingNode) -> Pin:
    name, tag, digest = (scalar(field(entry, key)) for key in ("name", "newTag", "digest"))
    return Pin(name, tag, digest)


def _entry(path: Path, text: str, image: str) -> yaml.MappingNode:
    for entry in _entries(path, text):
        if scalar(field(entry, "name")) == image:
            return entry
    raise UsageError(
        f"{path} has no entry for image {image!r} under images:; add `- name: {image}` with newTag "
        f"(images of this project are {', '.join(OURS)})"
    )
