"""What makes a step's work the same work: its inputs, parameters, code and libraries, as one hash."""

import hashlib
import importlib.metadata
import importlib.util
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def step_fingerprint(
    step: str, parameters: Mapping[str, Any], inputs: Mapping[str, str], code: Sequence[str], libraries: Sequence[str]
) -> str:
    """Hash all that the step's output depends on; the order of names does not matter."""
    return text_sha256(
        canonical_json(
            {
                "step": step,
                "parameters": dict(parameters),
                "inputs": dict(inputs),
                "code": {name: code_sha256(name) for name in code},
                "libraries": {name: importlib.metadata.version(name) for name in libraries},
                "python": ".".join(platform.python_version_tuple()[:2]),
            }
        )
    )


def code_sha256(name: str) -> str:
    """Hash the sources of a module, or all files of a package (its templates and styles too), without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the code of a step names {name!r}, and there is no such module")
    digest = hashlib.sha256()
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for relative, path in sorted(_sources(folders)) if folders else [(name, Path(spec.origin))]:
        content = path.read_bytes()
        digest.update(f"{relative}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _sources(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for folder in folders:
        for path in folder.rglob("*"):
            relative = path.relative_to(folder)
            if path.is_file() and "__pycache__" not in relative.parts and not path.name.startswith("."):
                yield relative.as_posix(), path


def canonical_json(value: Any) -> str:
    """Write a value in the one way that equal values share; nan and dates are refused.

    >>> canonical_json({"b": 1, "a": [None, "é"]})
    '{"a":[null,"é"],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
