"""The servers that are compared, each with what it needs in a virtual environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.servers.running import REPOSITORY, Service

FOLDER = Path(__file__).parent / "neighbours"
RUNTIME = "onnxruntime==1.32.0"
PACKAGES = {
    "fastapi": ("fastapi==0.165.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"),
    "kserve": ("kserve==0.21.0",),
    "bentoml": ("bentoml==1.4.39",),
    "mlserver": ("mlserver==1.7.1",),
    "litserve": ("litserve==0.2.19",),
}


def set_up(name: str, venvs: Path) -> Path:
    """Give the interpreter of a server's virtual environment, made with pip's configured index when it is new.

    Ours holds what the serving image holds; its code is the working tree's.
    """
    folder = venvs / name
    python = folder / "bin" / "python"
    done = folder / ".installed"
    if name == "ours":
        wanted = (REPOSITORY / "pyproject.toml").read_text() + (REPOSITORY / "requirements.lock").read_text()
        packages = ("-c", str(REPOSITORY / "requirements.lock"), "-e", f"{REPOSITORY}[inference]")
    else:
        packages = (*PACKAGES[name], RUNTIME)
        wanted = "\n".join(packages)
    if not done.exists() or done.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        done.write_text(wanted)
    return python


def ours(venvs: Path, model_uri: Path, cache: Path, **environment: str) -> Service:
    """Our server as it is started in production, with every request logged."""
    python = str(set_up("ours", venvs))
    return Service(
        name="ours",
        command=lambda _: [python, "-m", "inference"],
        environment=lambda port: {
            "API_PORT": str(port),
            "MODEL_URI": str(model_uri),
            "MODEL_CACHE": str(cache),
            "MALLOC_ARENA_MAX": "2",
            **environment,
        },
    )


def neighbour(name: str, venvs: Path, bundle: Path, scratch: Path) -> Service:
    """One of PACKAGES behind the same graph."""
    python = str(set_up(name, venvs))
    environment = {"BUNDLE": str(bundle.resolve())}

    def with_port(port: int) -> dict[str, str]:
        return environment | {"PORT": str(port)}

    def run(_: int) -> list[str]:
        return [python, f"serve_{name}.py"]

    if name == "kserve":
        return Service(
            name,
            run,
            with_port,
            "/v1/models/recommender:predict",
            wrap=lambda body: f'{{"instances": [{body}]}}',
            unwrap=lambda answer: answer["predictions"][0],
            folder=FOLDER,
        )
    if name == "bentoml":
        bentoml = str(Path(python).with_name("bentoml"))

        def serve(port: int) -> list[str]:
            return [bentoml, "serve", "serve_bentoml:Recommender", "--port", str(port), "--host", "127.0.0.1"]

        quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(scratch / "bentoml")}
        return Service(name, serve, lambda port: with_port(port) | quiet, folder=FOLDER)
    if name == "mlserver":
        return _mlserver(python, environment, scratch)
    return Service(name, run, with_port, folder=FOLDER)


def _mlserver(python: str, environment: dict[str, str], scratch: Path) -> Service:
    folder = scratch / "mlserver"
    folder.mkdir(parents=True, exist_ok=True)
    batching = {"max_batch_size": 32, "max_batch_time": 0.001}
    settings = {"name": "recommender", "implementation": "serve_mlserver.Recommender", **batching}
    (folder / "model-settings.json").write_text(json.dumps(settings))

    def with_port(port: int) -> dict[str, str]:
        named = {"HTTP_PORT": port, "GRPC_PORT": port + 10_000, "METRICS_PORT": port + 20_000, "PARALLEL_WORKERS": 0}
        named = {name: value % 65_536 if "PORT" in name else value for name, value in named.items()}
        return (
            environment
            | {f"MLSERVER_{name}": str(value) for name, value in named.items()}
            | {
                "PYTHONPATH": str(FOLDER),
                "MLSERVER_DEBUG": "false",
            }
        )

    def wrap(body: str) -> str:
        return json.dumps({"inputs": [{"name": "requests", "shape": [1], "datatype": "BYTES", "data": [body]}]})

    def unwrap(answer: Any) -> Any:
        return json.loads(answer["outputs"][0]["data"][0])

    command = [str(Path(python).with_name("mlserver")), "start", "."]
    path = "/v2/models/recommender/infer"
    return Service("mlserver", lambda _: command, with_port, path, wrap=wrap, unwrap=unwrap, folder=folder)
