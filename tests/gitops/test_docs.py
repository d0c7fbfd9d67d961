"""Whatever the documentation of gitops/ names exists: paths, links, make targets, commands and their options."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import boto3
import click
import pytest
import typer
from botocore import xform_name

from pipelines.gitops.validate import SIBLING, validate

REPOSITORY = Path(__file__).parents[2]
DOCS = [REPOSITORY / "gitops/README.md", *sorted((REPOSITORY / "gitops/docs").glob("*.md"))]
KUBECTL = Path(sys.executable).with_name("kubectl")
OURS = ("gitops/", "pipelines/", "inference/", "tests/", "benchmarks/", ".github/", "docs/")
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
HEREDOC = re.compile(r"<<'?EOF'?\n.*?\nEOF\n", re.DOTALL)
# Programs that are nobody's to check here: the shell's own, and what only a cluster's or a developer's machine has.
OF_OTHERS = {"cat", "cosign", "curl", "docker", "do", "done", "export", "for", "git", "mkdir", "sed"}

every_document = pytest.mark.parametrize("document", DOCS, ids=lambda path: path.stem)


def plain(text: str) -> str:
    """Cut out what lies in fences, where backticks and brackets mean other things."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def commands_of(document: Path) -> list[list[str]]:
    """Give every command line: of the shell blocks, and in backticks; `python` for that of .venv."""
    text = document.read_text().replace(".venv/bin/python -m", "python -m")
    lines = [line for block in SHELL.findall(text) for line in HEREDOC.sub("\n", block).splitlines()]
    spans = [
        span for span in re.findall(r"`([^`\n]+)`", plain(text)) if re.match(r"(python -m|make|kubectl|aws) \S", span)
    ]
    found = []
    for line in [*lines, *spans]:
        for part in re.split(r"\s(?:&&|\|)\s", line.strip()):
            if part:
                found.append(shlex.split(part))
    return found


@every_document
def test_every_path_exists(document: Path) -> None:
    spans = [span for span in re.findall(r"`([^`\s]+)`", plain(document.read_text())) if span.startswith(OURS)]
    missing = [span for span in spans if not list(REPOSITORY.glob(re.sub(r"\b(ENV|APP)\b", "*", span.rstrip("/"))))]
    assert missing == []


@every_document
def test_every_link_leads_somewhere(document: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", plain(document.read_text())) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


@every_document
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (REPOSITORY / "Makefile").read_text()))
    used = {command[1] for command in commands_of(document) if command[0] == "make"}
    assert used - targets == set()


@every_document
def test_every_program_is_known(document: Path) -> None:
    known = {"aws", "kubectl", "make", "python"} | OF_OTHERS
    assert [command for command in commands_of(document) if command[0] not in known] == []


@every_document
def test_every_command_of_ours_takes_these_options(document: Path) -> None:
    for command in commands_of(document):
        if command[:2] == ["python", "-m"]:
            module, arguments = command[2], list(command[3:])
            app = typer.main.get_command(importlib.import_module(f"{module}{_main(module)}").app)
            context = click.Context(app, info_name=module)
            if isinstance(app, typer.core.TyperGroup):
                name, inner, arguments = app.resolve_command(context, arguments)
                assert inner is not None, command
                app, module = inner, f"{module} {name}"
            app.make_context(module, arguments)  # raises a UsageError for what the command does not take


def _main(module: str) -> str:
    return ".__main__" if (REPOSITORY / module.replace(".", "/")).is_dir() else ""


@cache
def kubectl_help(*words: str) -> str:
    help_of = [] if words == ("options",) else ["--help"]
    done = subprocess.run([KUBECTL, *words, *help_of], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


@every_document
def test_every_kubectl_command_and_flag_exists(document: Path) -> None:
    everywhere = kubectl_help("options")
    for command in commands_of(document):
        if command[0] != "kubectl":
            continue
        words = [word for word in _without_values(command[1:]) if not word.startswith("-")]
        verb = words[:2] if words[0] in ("auth", "rollout", "top") else words[:1]
        text = kubectl_help(*verb)
        assert f"kubectl {' '.join(verb)}" in text, command
        for flag in [word.partition("=")[0] for word in command[1:] if word.startswith("-") and word != "-"]:
            flag_line = re.compile(rf"(?m)^\s+(-\w, )?{re.escape(flag)}\b|^\s+{re.escape(flag)},")
            assert flag_line.search(text) or flag_line.search(everywhere), (flag, command)


def _without_values(words: list[str]) -> list[str]:
    """Drop `-n NAMESPACE`, which stands before the verb."""
    return words[2:] if words[0] == "-n" else words


@every_document
def test_every_aws_call_and_parameter_exists(document: Path) -> None:
    for command in commands_of(document):
        if command[0] == "aws":
            client = boto3.client(
                command[1], region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
            )
            operation = client.meta.method_to_api_mapping[command[2].replace("-", "_")]
            known = set(client.meta.service_model.operation_model(operation).input_shape.members)
            known = {xform_name(name, "-") for name in known}
            assert {word[2:] for word in command[3:] if word.startswith("--")} <= known, command


def test_alerts_and_docs_speak_of_the_same_numbers() -> None:
    """The arithmetic of POD_OPTIMIZATION is what the validation computes with."""
    from pipelines.gitops.rules.pods import T3_MICRO_ALLOCATABLE_MIB, T3_MICRO_DAEMONS_MIB

    text = (REPOSITORY / "gitops/docs/POD_OPTIMIZATION.md").read_text()
    assert f"947 − 299 − 100 = **{T3_MICRO_ALLOCATABLE_MIB} MiB**" in text
    room = T3_MICRO_ALLOCATABLE_MIB - T3_MICRO_DAEMONS_MIB
    assert f"{T3_MICRO_ALLOCATABLE_MIB} − {T3_MICRO_DAEMONS_MIB} = {room} MiB" in text
    assert (T3_MICRO_ALLOCATABLE_MIB, 1930) == (947 - (255 + 11 * 4) - 100, 2000 - 60 - 10)


def test_adding_an_application_as_the_document_says_gives_a_valid_tree(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "gitops", tmp_path / "gitops")
    blocks = SHELL.findall((REPOSITORY / "gitops/docs/adding-an-application.md").read_text())
    assert blocks[-1].startswith("make validate-gitops\n")
    for block in blocks[:-1]:
        subprocess.run(["bash", "-euc", block], cwd=tmp_path, check=True)
    overlays = ("apps/hello/overlays/production", "apps/hello/overlays/staging", "bootstrap")
    result = validate(tmp_path / "gitops", SIBLING if SIBLING.is_dir() else None, overlays)
    assert result.findings == []
    assert [str(one.folder.relative_to(tmp_path / "gitops")) for one in result.rendered] == list(overlays)
    hello = next(d for d in result.rendered[2].of_kind("ApplicationSet") if d["metadata"]["name"] == "hello")
    assert hello["spec"]["template"]["spec"]["source"]["repoURL"].startswith("https://")
    assert hello["spec"]["template"]["spec"]["syncPolicy"]["automated"]["selfHeal"] is True
