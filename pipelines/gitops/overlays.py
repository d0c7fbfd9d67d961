"""Read and edit the `images:` of an overlay, and nothing else of it: comments and order stay."""

from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines.errors import UsageError
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
    if not (overlays / environment / KUSTOMIZATION).is_file():
        there = ", ".join(sorted(path.parent.name for path in overlays.glob(f"*/{KUSTOMIZATION}"))) or "none"
        raise UsageError(f"{overlays} has no environment {environment!r}; there are: {there}")
    return overlays / environment


def read_pin(overlay: Path, image: str) -> Pin:
    """Read what an overlay runs."""
    entry = _entry(_load(overlay / KUSTOMIZATION), overlay, image)
    return Pin(image, str(entry.get("newTag", "")), str(entry.get("digest", "")))


def write_pin(overlay: Path, pin: Pin) -> None:
    """Set tag and digest; a digest that is not given is taken out, because it was another tag's."""
    path = overlay / KUSTOMIZATION
    document = _load(path)
    entry = _entry(document, overlay, pin.image)
    entry["newTag"] = pin.tag
    if pin.digest and "digest" not in entry:
        entry.insert(list(entry).index("newTag") + 1, "digest", pin.digest)
        _move_comment(entry, "newTag", "digest")
    elif pin.digest:
        entry["digest"] = pin.digest
    elif "digest" in entry:
        _move_comment(entry, "digest", "newTag")
        entry.pop("digest")
    text = StringIO()
    _yaml().dump(document, text)
    path.write_text(text.getvalue(), encoding="utf-8")


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
        for entry in _load(path).get("images", []):
            other = Pin(str(entry.get("name")), str(entry.get("newTag", "")), str(entry.get("digest", "")))
            if other.digest == pin.digest and (other.image, other.tag) != (pin.image, pin.tag):
                raise UsageError(
                    f"digest {pin.digest} is that of {other.image}:{other.tag} in {path}, not {pin.image}:{pin.tag}'s; "
                    "take the one that the build of this tag printed"
                )


def _entry(document: Any, overlay: Path, image: str) -> Any:
    for entry in (document or {}).get("images", []):
        if entry.get("name") == image:
            return entry
    raise UsageError(
        f"{overlay / KUSTOMIZATION} has no entry for image {image!r} under images:; add `- name: {image}` with newTag "
        f"(images of this project are {', '.join(OURS)})"
    )


def _move_comment(entry: Any, before: str, after: str) -> None:
    """Keep what follows the entry behind its last line: ruamel holds a comment by the key that it follows."""
    if comment := entry.ca.items.pop(before, None):
        entry.ca.items[after] = comment


def _load(path: Path) -> Any:
    return _yaml().load(path.read_text(encoding="utf-8"))


def _yaml() -> YAML:
    yaml = YAML()  # the round trip, which keeps comments, quotes and order
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
