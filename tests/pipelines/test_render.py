import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hera.workflows import models as argo

from pipelines.render import BASE, DOCUMENTS, render, stale_diff


def test_committed_yaml_is_what_the_step_table_renders() -> None:
    assert stale_diff(BASE) == ""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_yaml_reads_back_as_the_same_document(name: str) -> None:
    assert yaml.safe_load(render()[name]) == DOCUMENTS[name]()


def test_parameter_values_stay_text() -> None:
    template = yaml.safe_load(render()["workflow-template.yaml"])
    assert all(isinstance(parameter["value"], str) for parameter in template["spec"]["arguments"]["parameters"])


def test_rendered_yaml_has_no_field_that_argo_lacks() -> None:
    document = yaml.safe_load(render()["workflow-template.yaml"])
    argo.WorkflowTemplate.model_validate(document, extra="forbid")
    document["spec"]["templates"][0]["container"]["comand"] = ["python"]
    with pytest.raises(ValueError, match="comand"):
        argo.WorkflowTemplate.model_validate(document, extra="forbid")


def test_check_shows_the_difference_and_exits_1(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(BASE, folder)
    template = folder / "workflow-template.yaml"
    template.write_text(template.read_text().replace("memory: 3584Mi", "memory: 16Gi"))
    (folder / "configmap.yaml").unlink()
    done = _render("--check", "--folder", str(folder))
    assert done.returncode == 1
    assert [line.split() for line in done.stdout.splitlines() if "memory:" in line and line[0] in "+-"] == [
        ["-", "memory:", "16Gi"],
        ["+", "memory:", "3584Mi"],
    ]
    assert "METRIC_THRESHOLD" in done.stdout
    assert "python -m pipelines.render" in done.stderr
    assert "16Gi" in template.read_text()

    assert _render("--folder", str(folder)).returncode == 0
    assert _render("--check", "--folder", str(folder)).returncode == 0


def _render(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipelines.render", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}, check=False)
