import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.errors import UsageError
from pipelines.gitops.overlays import Pin, overlay_folder, read_pin, write_pin
from pipelines.promote import app
from tests.pipelines.gitops.trees import INFERENCE, TRAINING, change, copy_tree

DIGEST = f"sha256:{'1a' * 32}"
OTHER_DIGEST = f"sha256:{'2b' * 32}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_tree(tmp_path)


def promote(root: Path, *arguments: str) -> None:
    app([*arguments, "--root", str(root)], standalone_mode=False)


def image(root: Path, environment: str, tag: str, *more: str) -> None:
    promote(root, "image", "--env", environment, "--tag", tag, *more)


def changed_files(root: Path, before: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Give file → lines that went, lines that came."""
    found = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        old = (before / path.relative_to(root)).read_text().splitlines()
        new = path.read_text().splitlines()
        if old != new:
            found[str(path.relative_to(root))] = (
                [line for line in old if line not in new],
                [line for line in new if line not in old],
            )
    return found


@pytest.mark.parametrize("app", ["inference", "training"])
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_editing_an_overlay_leaves_every_other_byte_as_it_was(root: Path, app: str, environment: str) -> None:
    overlay = overlay_folder(root, app, environment)
    path = overlay / "kustomization.yaml"
    before = path.read_text()
    old = read_pin(overlay, app)
    write_pin(overlay, Pin(app, "main-1a2b3c4", DIGEST))
    assert path.read_text().replace(f"newTag: main-1a2b3c4\n    digest: {DIGEST}", f"newTag: {old.tag}") == before
    write_pin(overlay, old)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("before", "pinned"),
    [
        (
            "images:\r\n- name: inference\r\n  newTag: OLD  # ours\r\n",
            "images:\r\n- name: inference\r\n  newTag: NEW  # ours\r\n  digest: DIGEST\r\n",
        ),
        (
            "images: [{name: inference, newTag: OLD}]\n",
            "images: [{name: inference, newTag: NEW, digest: DIGEST}]\n",
        ),
        (
            "images:\n    -   newTag:   OLD\n        name: inference\n",
            "images:\n    -   newTag:   NEW\n        digest: DIGEST\n        name: inference\n",
        ),
        (
            "images:\n  - name: inference\n    newTag: OLD",
            "images:\n  - name: inference\n    newTag: NEW\n    digest: DIGEST",
        ),
    ],
    ids=["ends of lines of Windows", "flow style", "indented otherwise", "no last end of line"],
)
def test_an_overlay_keeps_the_form_that_somebody_gave_it(tmp_path: Path, before: str, pinned: str) -> None:
    path, old, new = tmp_path / "kustomization.yaml", "develop-1a2b3c4", "develop-2b3c4d5"
    before, pinned = before.replace("OLD", old), pinned.replace("NEW", new).replace("DIGEST", DIGEST)
    path.write_bytes(before.encode())
    write_pin(tmp_path, Pin("inference", new, DIGEST))
    assert path.read_bytes().decode() == pinned
    assert read_pin(tmp_path, "inference") == Pin("inference", new, DIGEST)
    write_pin(tmp_path, Pin("inference", old))
    assert path.read_bytes().decode() == before
    assert [file.name for file in tmp_path.iterdir()] == ["kustomization.yaml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("images: [\n", "is not YAML: "), ("images:\n  - inference\n", "has no entry"), ("[]\n", "has no entry")],
)
def test_an_overlay_that_is_broken_is_named_without_a_traceback(root: Path, text: str, said: str) -> None:
    path = root / INFERENCE / "overlays/staging/kustomization.yaml"
    path.write_text(text)
    command = [sys.executable, "-m", "pipelines.promote", "image", "--env", "staging", "--tag", "develop-1a2b3c4"]
    done = subprocess.run([*command, "--root", str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{path} {said}" in done.stderr
    assert "Traceback" not in done.stderr


def test_image_writes_one_overlay_and_prints_message_and_evidence(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shutil.copytree(root, tmp_path / "before")
    message, body = tmp_path / "message.txt", tmp_path / "body.md"
    files = ("--message-file", str(message), "--body-file", str(body))
    image(root, "staging", "develop-1a2b3c4", "--app", "inference", "--digest", DIGEST, *files)
    assert changed_files(root, before) == {
        f"{INFERENCE}/overlays/staging/kustomization.yaml": (
            [f"    newTag: develop-{'0' * 40}"],
            ["    newTag: develop-1a2b3c4", f"    digest: {DIGEST}"],
        )
    }
    assert message.read_text().splitlines()[0] == "Promote inference to staging: develop-1a2b3c4"
    assert re.findall(r"(?m)^([-+]) +image: \S+/(inference:\S+)$", body.read_text()) == [
        ("-", f"inference:develop-{'0' * 40}"),
        ("+", f"inference:develop-1a2b3c4@{DIGEST}"),
    ]
    printed = capsys.readouterr().out
    assert message.read_text() in printed
    assert body.read_text() in printed


def test_production_gets_the_tags_and_digests_of_staging(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    staged = {"inference": Pin("inference", "develop-1a2b3c4", DIGEST), "training": Pin("training", "develop-9f8e7d6")}
    for name, pin in staged.items():
        write_pin(overlay_folder(root, name, "staging"), pin)
    promote(root, "staging", "production")
    assert {name: read_pin(overlay_folder(root, name, "production"), name) for name in staged} == staged
    capsys.readouterr()
    promote(root, "staging→production")
    assert capsys.readouterr().out.startswith("nothing to do: production runs")


def test_a_tag_that_nobody_looked_up_is_said_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(root, "staging", "develop-1a2b3c4", "--app", "inference")
    assert "note: the registry was not asked for inference:develop-1a2b3c4;" in capsys.readouterr().err
    image(root, "staging", "develop-1a2b3c4", "--app", "inference", "--digest", DIGEST)
    assert "was not asked for" not in capsys.readouterr().err


def test_a_tag_without_digest_takes_the_old_digest_out(root: Path) -> None:
    overlay = overlay_folder(root, "inference", "staging")
    write_pin(overlay, Pin("inference", "develop-1a2b3c4", DIGEST))
    image(root, "staging", "develop-2b3c4d5", "--app", "inference")
    assert read_pin(overlay, "inference") == Pin("inference", "develop-2b3c4d5")


def test_dry_run_writes_nothing(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = shutil.copytree(root, tmp_path / "before")
    image(root, "staging", "develop-1a2b3c4", "--dry-run", "--app", "training")
    assert "develop-1a2b3c4" in capsys.readouterr().out
    assert changed_files(root, before) == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("image", "--env", "staging", "--tag", "latest"), "tag 'latest' is not of one commit"),
        (("image", "--env", "staging", "--tag", "develop"), "tag 'develop' is not of one commit"),
        (("image", "--env", "staging", "--tag", "develop-xyz1234"), "is not of one commit"),
        (("image", "--env", "staging", "--tag", f"develop-{'0' * 40}"), "stands for no image"),
        (("image", "--env", "production", "--tag", "develop-1a2b3c4"), "is not of the main branch"),
        (("image", "--env", "production/", "--tag", "develop-1a2b3c4"), "no environment 'production/'"),
        (("image", "--env", "production/.", "--tag", "develop-1a2b3c4"), "no environment 'production/.'"),
        (("image", "--env", "../overlays/production", "--tag", "develop-1a2b3c4"), "no environment '../overlays"),
        (("image", "--env", "live", "--tag", "main-1a2b3c4"), "there are: production, staging"),
        (("image", "--env", "staging", "--tag", "main-1a2b3c4", "--digest", DIGEST), "cannot be of two images"),
        (
            ("image", "--env", "staging", "--tag", "main-1a2b3c4", "--digest", "sha256:12", "--app", "training"),
            "digest 'sha256:12' is none",
        ),
        (("staging", "production"), f"staging has no inference yet .develop-{'0' * 40}"),
        (("staging", "staging"), "staging already runs what staging runs"),
    ],
)
def test_what_must_not_run_is_refused(root: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    before = shutil.copytree(root, tmp_path / "before")
    with pytest.raises(UsageError, match=said):
        promote(root, *arguments)
    assert changed_files(root, before) == {}


def test_a_digest_of_another_image_is_refused(root: Path) -> None:
    write_pin(overlay_folder(root, "training", "staging"), Pin("training", "develop-1a2b3c4", DIGEST))
    with pytest.raises(UsageError, match=f"digest {DIGEST} is that of training:develop-1a2b3c4"):
        image(root, "staging", "develop-1a2b3c4", "--app", "inference", "--digest", DIGEST)


def test_an_image_that_reaches_no_container_is_refused(root: Path) -> None:
    config = root / TRAINING / "base" / "kustomizeconfig.yaml"
    document = yaml.safe_load(config.read_text())
    document.pop("images")
    config.write_text(yaml.safe_dump(document))
    with pytest.raises(UsageError, match="reaches nothing"):
        image(root, "staging", "develop-1a2b3c4", "--app", "training")


def test_an_overlay_without_the_image_says_what_to_add(root: Path) -> None:
    change(root / INFERENCE / "overlays/staging/kustomization.yaml", "- name: inference\n", "- name: inferense\n")
    with pytest.raises(UsageError, match="no entry for image 'inference'"):
        image(root, "staging", "develop-1a2b3c4", "--app", "inference")


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_changed(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"/nowhere is no folder, so body\.md cannot be written there"):
        image(root, "staging", "develop-1a2b3c4", "--body-file", str(tmp_path / "nowhere/body.md"))
    assert read_pin(overlay_folder(root, "inference", "staging"), "inference").is_nothing_yet


@pytest.mark.parametrize(
    "path", ["config/defaults/image-registry.yaml", f"{INFERENCE}/overlays/staging/kustomization.yaml"]
)
def test_changes_of_somebody_s_own_are_not_committed_with_a_promotion(
    root: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    git = ["git", "-C", str(root.parent), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "gitops"], ["-c", "commit.gpgsign=false", "commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    image(root, "staging", "develop-1a2b3c4", "--app", "training")
    assert "commit only" not in capsys.readouterr().err
    (root / path).write_text((root / path).read_text() + "# mine\n")
    image(root, "staging", "develop-1a2b3c4", "--app", "inference")
    said = capsys.readouterr().err
    assert f"commit only: gitops/{INFERENCE}/overlays/staging/kustomization.yaml" in said
    assert ("look at git diff first" in said) == ("staging" in path)


def test_what_no_image_was_promoted_for_is_called_nothing_yet(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(root, "staging", "develop-1a2b3c4", "--app", "inference")
    said = capsys.readouterr().out
    assert "inference: nothing yet -> develop-1a2b3c4" in said
    assert "| inference | nothing yet | `inference:develop-1a2b3c4` |" in said


def test_a_refusal_is_one_line_and_exit_code_2(root: Path) -> None:
    command = [sys.executable, "-m", "pipelines.promote", "image", "--env", "staging", "--tag", "latest"]
    done = subprocess.run([*command, "--root", str(root)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
