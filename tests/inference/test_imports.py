import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.inference.conftest import Server
from tests.inference.tiny_bundle import article_id

FORBIDDEN = {"torch", "pandas", "polars", "hera", "boto3", "botocore", "onnx", "scipy", "pipelines"}
# Runs the server as `python -m inference` does, and leaves a list of what it had imported when it ended.
REPORT = """
import atexit, json, runpy, sys
atexit.register(lambda: open(sys.argv[1], "w").write(json.dumps(sorted(sys.modules))))
runpy.run_module("inference", run_name="__main__")
"""


def test_the_serving_process_imports_nothing_heavy(
    start_server: Callable[..., Server], tiny_bundle: Path, tmp_path: Path
) -> None:
    report = tmp_path / "modules.json"
    server = start_server(command=[sys.executable, "-c", REPORT, str(report)], MODEL_URI=str(tiny_bundle))
    server.wait_for_version("v1")
    assert server.predict({"article_ids": [article_id(2)]}).json()["source"] == "personal"
    for path in ("/metrics", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css"):
        assert server.get(path).status_code == 200
    assert server.stop() == 0
    modules = set(json.loads(report.read_text()))
    assert {"onnxruntime", "numpy", "fastapi"} <= modules
    assert not (FORBIDDEN | {"opentelemetry.sdk"}) & modules


def test_the_engine_needs_no_server() -> None:
    server = {"fastapi", "starlette", "uvicorn", "structlog"}
    code = f"import sys, inference.engine; print(sorted({server} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
