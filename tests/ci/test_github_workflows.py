"""The workflows of GitHub: linted by actionlint and zizmor, actions pinned, commands that exist."""

import importlib
import re
import shlex
import subprocess
import sys
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
