"""The workflows of GitHub: linted by actionlint and zizmor, actions pinned, commands that exist."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

REPOSITORY = Path(__file__).parents[2]
GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yaml"))
BIN = Path(sys.executable).parent
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def steps_of(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_there_are_the_three_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["build-images", "ci", "validate-gitops"]


def test_actionlint_finds_nothing() -> None:
    done = subprocess.run([BIN / "actionlint", *WORKFLOWS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_would_find_something(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(WORKFLOWS[0].read_text().replace("runs-on: ubuntu-24.04", "runs-at: ubuntu-24.04"))
    assert subprocess.run([BIN / "actionlint", broken], capture_output=True, check=False).returncode == 1


def test_zizmor_finds_nothing() -> None:
    command = [BIN / "zizmor", "--offline", "--no-progress", GITHUB]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_its_commit_with_the_version_beside_it(workflow: Path) -> None:
    used = [line.strip().removeprefix("- ") for line in workflow.read_text().splitlines() if "uses: " in line]
    assert [line for line in used if not PINNED.match(line)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_is_allowed_that_a_job_does_not_ask_for(workflow: Path) -> None:
    document = yaml.safe_load(workflow.read_text())
    assert document["permissions"] == {}
    assert all("permissions" in job and "timeout-minutes" in job for job in document["jobs"].values())


def test_validation_runs_the_module_of_make_validate_gitops() -> None:
    target = re.search(r"(?m)^validate-gitops:.*\n\t@\$\(BIN\)/python -m (\S+)$", (REPOSITORY / "Makefile").read_text())
    assert target is not None
    runs = [step["run"] for step in steps_of(GITHUB / "workflows/validate-gitops.yaml") if "run" in step]
    assert f"python -m {target[1]} --crd-schemas crds" in runs


def test_schemas_are_those_of_the_charts_that_are_deployed() -> None:
    """A chart's comment says what it installs, because few charts share its version."""
    gitops = REPOSITORY / "gitops"
    applications = [*gitops.glob("bootstrap/platform/*.yaml"), *gitops.glob("policy/*/*-app.yaml")]
    text = "".join(path.read_text() for path in applications)
    installed = re.findall(r"targetRevision: [\d.]+  # (.+)", text)
    names = [str(step.get("name", "")) for step in steps_of(GITHUB / "workflows/validate-gitops.yaml")]
    schemas = {name.removeprefix("Schemas of ") for name in names if name.startswith("Schemas of ")}
    assert {name for name in schemas if not name.startswith("Argo")} == set(installed) != set()


def test_the_test_job_runs_what_any_machine_runs() -> None:
    assert "bash .ci/run" in [step.get("run") for step in steps_of(GITHUB / "workflows/ci.yaml")]


def test_every_command_of_ours_parses_with_its_own_options() -> None:
    commands = []
    for workflow in WORKFLOWS:
        for step in steps_of(workflow):
            text = step.get("run", "").replace("\\\n", " ")
            commands += re.findall(r"(?m)^\s*python -m (pipelines\.\S+)(.*)$", text)
    assert {module for module, _ in commands} == {"pipelines.promote", "pipelines.gitops.validate"}
    for module, rest in commands:
        arguments = shlex.split(re.sub(r'\$\{LAKE:\+(--lake) "\$LAKE"\}', r"\1 lake", rest))
        arguments = ["both" if word == "$app" else word for word in arguments]
        app = typer.main.get_command(importlib.import_module(module).app)
        context = app.make_context(module, list(arguments))
        if isinstance(app, typer.core.TyperGroup):
            name, command, rest_of = app.resolve_command(context, list(arguments))
            assert command is not None
            command.make_context(name, rest_of, parent=context)


BUILD = yaml.safe_load((GITHUB / "workflows/build-images.yaml").read_text())


def test_no_commit_takes_the_place_of_another_in_the_queue() -> None:
    """Of a group's waiting runs GitHub keeps the newest only."""
    assert "${{ github.sha }}" in BUILD["concurrency"]["group"]
    assert [name for name, job in BUILD["jobs"].items() if "concurrency" in job] == []


PYTHON = """#!/bin/bash
# what promote does: edits gitops/ and says so, or finds nothing to do
if [ "$2" = pipelines.promote ]; then
  pin="$(grep -oP -- '--tag \\K\\S+' <<<"$*")"
  [ "$(cat gitops/pin)" = "$pin" ] && exit 0
  echo "$pin" >gitops/pin
  echo "Promote $pin" >"$RUNNER_TEMP/message.txt"
fi
# another promotion, between the edit and the push
if [ "$2" = pipelines.gitops.validate ] && [ -x ../meanwhile ]; then ../meanwhile; rm ../meanwhile; fi
exit 0
"""
GH = """#!/bin/bash
if [ "$1 $2" = "pr list" ]; then cat ../requests 2>/dev/null; exit 0; fi
if [ "$1 $2" = "pr create" ]; then echo 7 >>../requests; fi
"""


@pytest.fixture
def promotion(tmp_path: Path) -> Callable[[str], str]:
    """Run the script of the promotion job in a real clone; python and gh are stand-ins. Gives what main then holds."""

    def git(*words: str, cwd: Path = tmp_path) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false", *words]
        return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout

    git("init", "-q", "--bare", "-b", "main", "origin")
    git("clone", "-q", "origin", "seed")
    (tmp_path / "seed/gitops").mkdir()
    (tmp_path / "seed/gitops/pin").write_text("develop-0000000\n")
    git("add", "gitops", cwd=tmp_path / "seed")
    git("commit", "-q", "-m", "first", cwd=tmp_path / "seed")
    git("push", "-q", "origin", "HEAD:main", cwd=tmp_path / "seed")
    (tmp_path / "bin").mkdir()
    for name, text in (("python", PYTHON), ("gh", GH), ("sleep", "#!/bin/bash\n")):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    script = BUILD["jobs"]["promote"]["steps"][-1]["run"]

    def run(branch: str) -> str:
        git("clone", "-q", "origin", "work")
        environment = {
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_REF_NAME": branch,
            "GITHUB_SHA": "1a2b3c4",
            "IMAGES": '["inference","training"]',
            "LAKE": "",
        }
        command = ["bash", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(
            command, cwd=tmp_path / "work", env=environment, capture_output=True, text=True, check=False
        )
        shutil.rmtree(tmp_path / "work")
        assert done.returncode == 0, done.stdout + done.stderr
        return git("show", "main:gitops/pin", cwd=tmp_path / "origin").strip()

    return run


def test_promotion_to_staging_lands_though_another_came_first(promotion: Callable[[str], str], tmp_path: Path) -> None:
    meanwhile = tmp_path / "meanwhile"
    meanwhile.write_text(
        f"#!/bin/bash\ncd {tmp_path}/seed && echo develop-9999999 >gitops/pin && "
        "git -c user.name=b -c user.email=b@example.org commit -qam other && git push -q origin HEAD:main\n"
    )
    meanwhile.chmod(0o755)
    assert promotion("develop") == "develop-1a2b3c4"
    log = subprocess.run(["git", "log", "--format=%s", "main"], cwd=tmp_path / "origin", capture_output=True, text=True)
    assert log.stdout.split("\n")[:3] == ["Promote develop-1a2b3c4", "other", "first"]
    assert promotion("develop") == "develop-1a2b3c4"  # again: nothing to do is no failure


def test_promotion_to_production_may_be_run_again(promotion: Callable[[str], str], tmp_path: Path) -> None:
    for _ in range(2):
        assert promotion("main") == "develop-0000000", "production waits for the pull request"
    branches = subprocess.run(["git", "branch"], cwd=tmp_path / "origin", capture_output=True, text=True).stdout
    assert "promote/main-1a2b3c4" in branches
    assert (tmp_path / "requests").read_text() == "7\n"
