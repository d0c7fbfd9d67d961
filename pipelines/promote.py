"""Deploy an image by one small commit: edits an overlay's `images:`, and says what speaks for it.

    python -m pipelines.promote image --env staging --tag develop-1a2b3c4 --digest sha256:… --app inference
    python -m pipelines.promote staging production --lake s3://bucket

Prints the commit message and the body of a pull request. Commits nothing: a person or CI does.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipelines.edge import run_app
from pipelines.errors import UsageError
from pipelines.gitops.container_registry import digest_of
from pipelines.gitops.evidence import Change, champion_evidence, preview
from pipelines.gitops.overlays import (
    APPLICATIONS,
    Pin,
    check_digest,
    check_pin,
    overlay_folder,
    read_pin,
    uncommitted,
    write_pin,
)
from pipelines.gitops.rules.images import parse_reference
from pipelines.gitops.tree import KUSTOMIZATION
from pipelines.lake import open_lake

GITOPS = Path(__file__).resolve().parent.parent / "gitops"


class App(StrEnum):
    """Which image; `both` are promoted by one commit."""

    inference = "inference"
    training = "training"
    both = "both"


app = typer.Typer(add_completion=False, no_args_is_help=True, help="Edit an overlay's images, with evidence.")
AppOption = Annotated[App, typer.Option("--app", help="Which image.")]
RootOption = Annotated[Path, typer.Option("--root", help="The folder that holds apps/.")]
LakeOption = Annotated[str, typer.Option("--lake", help="Lake whose champion is the evidence; none = no tables.")]
VerifyOption = Annotated[bool, typer.Option("--verify", help="Ask the registry for the tag's digest, and pin it.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Write nothing, only show.")]
MessageOption = Annotated[Path | None, typer.Option("--message-file", help="Write the commit message there too.")]
BodyOption = Annotated[Path | None, typer.Option("--body-file", help="Write the pull request's body there too.")]


@app.command("image")
def image_command(
    env: Annotated[str, typer.Option(help="The overlay: staging or production.")],
    tag: Annotated[str, typer.Option(help="main-<sha> or develop-<sha>, as the build pushed it.")],
    digest: Annotated[str, typer.Option(help="sha256:… of that tag; only with one --app.")] = "",
    which: AppOption = App.both,
    root: RootOption = GITOPS,
    lake: LakeOption = "",
    verify: VerifyOption = False,
    dry_run: DryRunOption = False,
    message_file: MessageOption = None,
    body_file: BodyOption = None,
) -> None:
    """Let an environment run the images of a commit."""
    if digest and which is App.both:
        raise UsageError("one digest cannot be of two images; pass --app inference or --app training with --digest")
    pins = [Pin(name, tag, digest) for name in _names(which)]
    for pin in pins:
        check_pin(root, pin, env)
    _promote(root, env, pins, lake, verify, dry_run, message_file, body_file, source=None)


def staging_command(
    to: Annotated[str, typer.Argument(help="The environment that gets what staging runs.")] = "production",
    which: AppOption = App.both,
    root: RootOption = GITOPS,
    lake: LakeOption = "",
    verify: VerifyOption = False,
    dry_run: DryRunOption = False,
    message_file: MessageOption = None,
    body_file: BodyOption = None,
) -> None:
    """Let production run exactly what staging runs: the same tag, the same digest."""
    if to == "staging":
        raise UsageError("staging already runs what staging runs; name another environment, such as production")
    pins = [read_pin(overlay_folder(root, name, "staging"), name) for name in _names(which)]
    for pin in pins:
        if pin.is_nothing_yet:
            raise UsageError(
                f"staging has no {pin.image} yet ({pin.tag}); first: "
                f"python -m pipelines.promote image --env staging --tag develop-<sha> --app {pin.image}"
            )
        check_digest(root, pin)
    _promote(root, to, pins, lake, verify, dry_run, message_file, body_file, source="staging")


app.command("staging")(staging_command)
app.command("staging→production", hidden=True)(staging_command)  # as people write it down


def _names(which: App) -> list[str]:
    return list(APPLICATIONS) if which is App.both else [which.value]


def _promote(
    root: Path,
    environment: str,
    pins: Sequence[Pin],
    lake: str,
    verify: bool,
    dry_run: bool,
    message_file: Path | None,
    body_file: Path | None,
    *,
    source: str | None,
) -> None:
    root = root.resolve()
    for path in (message_file, body_file):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"{path.parent} is no folder, so {path.name} cannot be written there; nothing was changed")
    changes = []
    for pin in pins:
        overlay = overlay_folder(root, pin.image, environment)
        before = read_pin(overlay, pin.image)
        change = preview(root, overlay, before, pin)
        if verify:
            change = preview(root, overlay, before, _verified(root, change))
        changes.append(change)
    changed = [change for change in changes if change.after != change.before]
    if not changed:
        typer.echo(f"nothing to do: {environment} runs {' and '.join(str(pin) for pin in pins)} already")
        return
    edited = [overlay_folder(root, change.after.image, environment) / KUSTOMIZATION for change in changed]
    left = uncommitted(root)
    evidence = champion_evidence(open_lake(lake)) if lake else ""
    message, body = _message(environment, changed, source), _body(environment, changed, source, evidence, verify)
    if not dry_run:
        for change, file in zip(changed, edited, strict=True):
            write_pin(file.parent, change.after)
    for path, text in ((message_file, message), (body_file, body)):
        if path is not None:
            path.write_text(text, encoding="utf-8")
    if left and not dry_run:
        files = " ".join(str(file.relative_to(root.parent)) for file in edited)
        own = "; of the overlay itself, look at git diff first" if any(file in left for file in edited) else ""
        typer.echo(f"note: {root.name}/ had changes that are not committed; commit only: {files}{own}", err=True)
    if not verify and (by_tag := [str(change.after) for change in changed if not change.after.digest]):
        names = " and ".join(by_tag)
        typer.echo(f"note: the registry was not asked for {names}; --verify asks, and pins the digest", err=True)
    typer.echo(f"=== commit message\n{message}\n=== pull request\n{body}", nl=False)


def _verified(root: Path, change: Change) -> Pin:
    """Hold a pin against the registry, and give it with the digest that the registry has."""
    pin = change.after
    known = digest_of(parse_reference(change.image))
    if pin.digest and pin.digest != known:
        raise UsageError(
            f"digest {pin.digest} is not that of {pin.image}:{pin.tag}; the registry has {known}: pass that, or none"
        )
    verified = Pin(pin.image, pin.tag, known)
    check_digest(root, verified)
    return verified


def _message(environment: str, changes: Sequence[Change], source: str | None) -> str:
    tags = sorted({change.after.tag for change in changes})
    what = " and ".join(change.after.image for change in changes)
    lines = [f"Promote {what} to {environment}: {', '.join(tags)}", ""]
    for change in changes:
        before = "nothing yet" if change.before.is_nothing_yet else change.before.tag
        lines.append(f"{change.after.image}: {before} -> {change.after.tag}")
        if change.after.digest:
            lines.append(f"  {change.after.digest}")
    lines += ["", f"As {source} runs it." if source else "By python -m pipelines.promote image.", ""]
    return "\n".join(lines)


def _body(environment: str, changes: Sequence[Change], source: str | None, evidence: str, is_verified: bool) -> str:
    parts = [f"## Promote to {environment}", "| image | runs now | will run |\n| --- | --- | --- |"]
    for change in changes:
        before = "nothing yet" if change.before.is_nothing_yet else f"`{change.before}`"
        parts[-1] += f"\n| {change.after.image} | {before} | `{change.after}` |"
    if source:
        parts.append(f"These are the tags and digests that {source} runs, unchanged.")
    parts.append(
        "The registry was asked, and has these digests for these tags."
        if is_verified
        else "The registry was not asked (`--verify` does)."
    )
    parts.append("## How good the champion is")
    parts.append(evidence or "No lake was given (`--lake s3://bucket`), so nothing is said of the model.")
    parts.append("## What changes in the rendered manifests")
    parts += [f"```diff\n{change.diff}\n```" for change in changes]
    parts.append(f"To undo: revert this commit; Argo CD then brings {environment} back.")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    run_app(app)
