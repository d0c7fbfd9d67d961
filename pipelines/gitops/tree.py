"""Read the tree below gitops/ as it is written: kustomizations, the files that they name, plain manifests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import UsageError

Document = dict[str, Any]
KUSTOMIZATION = "kustomization.yaml"
PARTS = ("apps", "bootstrap", "config", "policy")  # what makes a folder a GitOps tree


@dataclass(frozen=True)
class Source:
    """One object as some file has it, before kustomize touches it."""

    path: Path
    document: Document

    @property
    def identity(self) -> tuple[str, str]:
        return kind_of(self.document), name_of(self.document)


@dataclass(frozen=True)
class Rendered:
    """What kustomize makes of one folder, beside what went in."""

    folder: Path
    kustomization: Mapping[str, Any]
    documents: Sequence[Document]
    sources: Sequence[Source] = field(default=(), repr=False)

    @property
    def file(self) -> Path:
        return self.folder / KUSTOMIZATION

    def file_of(self, document: Document) -> Path:
        """Find the file that an object comes from; a name may have got a prefix or a hash since."""
        kind, name = kind_of(document), name_of(document)
        found = [s.path for s in self.sources if s.identity[0] == kind and s.identity[1] and s.identity[1] in name]
        return found[0] if found else self.file

    def of_kind(self, *kinds: str) -> list[Document]:
        return [document for document in self.documents if kind_of(document) in kinds]

    def find(self, kind: str, name: str, namespace: str | None = None) -> Document | None:
        """Find an object by name, in one namespace when that is given and written."""
        for document in self.of_kind(kind):
            own = document["metadata"].get("namespace")
            if name_of(document) == name and (namespace is None or own is None or own == namespace):
                return document
        return None


class Tree:
    """A folder such as gitops/."""

    def __init__(self, root: Path) -> None:
        missing = [name for name in PARTS if not (root / name).is_dir()]
        if missing:
            raise UsageError(
                f"{root} has no folder {', '.join(missing)}; pass the folder that holds them: --root gitops"
            )
        self.root = root

    @cached_property
    def yaml_files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.suffix in (".yaml", ".yml") and path.is_file())

    @cached_property
    def overlays(self) -> list[Path]:
        return sorted(path for path in self.root.glob("apps/*/overlays/*") if path.is_dir())

    @cached_property
    def kustomized(self) -> list[Path]:
        """Every folder that Argo CD or a person applies by itself, and any that these do not draw in."""
        tops = [*self.overlays, self.root / "bootstrap", *sorted(self.root.glob("manifests/*"))]
        tops = [path for path in tops if path.is_dir()]
        drawn_in = {folder for top in tops for folder in drawn_in_by(top)}
        others = [path for path in self.kustomizations if not _is_component(path) and path.resolve() not in drawn_in]
        return tops + [path for path in others if path not in tops]

    @cached_property
    def components(self) -> list[Path]:
        return [path for path in self.kustomizations if _is_component(path)]

    @cached_property
    def kustomizations(self) -> list[Path]:
        return sorted(path.parent for path in self.root.rglob(KUSTOMIZATION))

    def shown(self, path: Path) -> str:
        """Write a path as people type it: from the folder that holds the tree."""
        try:
            return str(path.resolve().relative_to(self.root.resolve().parent))
        except ValueError:
            return str(path)


class _Loader(yaml.CSafeLoader):
    """libyaml, which takes a tenth of the time; a bare `=`, which YAML 1.1 sets apart, is text as in Kubernetes."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def load_all(text: str) -> list[Any]:
    """Read every document of a text; raises yaml.YAMLError."""
    return list(yaml.load_all(text, Loader=_Loader))


def documents_of(path: Path) -> list[Document]:
    """Read every object of a file; raises yaml.YAMLError."""
    return [document for document in load_all(path.read_text(encoding="utf-8")) if isinstance(document, dict)]


def read_kustomization(folder: Path) -> Document:
    """Read a folder's kustomization; empty when it has none or one that is no mapping."""
    path = folder / KUSTOMIZATION
    if not path.is_file():
        return {}
    return next(iter(documents_of(path)), {})


def _is_component(folder: Path) -> bool:
    return read_kustomization(folder).get("kind") == "Component"


def named_in(kustomization: Document, *keys: str) -> list[str]:
    """Give what a kustomization names, by default as resources and components; what is no list of names has none."""
    lists = [kustomization.get(key) for key in keys or ("resources", "components")]
    return [name for names in lists if isinstance(names, list) for name in names if isinstance(name, str)]


def drawn_in_by(folder: Path, seen: frozenset[Path] = frozenset()) -> set[Path]:
    """Give the folders that a kustomization names as resources or components, and those that they name."""
    named = [(folder / name).resolve() for name in named_in(read_kustomization(folder))]
    inner = {path for path in named if path.is_dir() and path not in seen}
    return inner | {deeper for path in inner for deeper in drawn_in_by(path, seen | inner)}


def without_nulls(value: Any) -> Any:
    """Leave out fields that are null: Kubernetes takes them as not there, and so do all checks."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def sources_of(folder: Path) -> list[Source]:
    """Give every object that a kustomization draws in, through bases and components; generated ones by their name."""
    kustomization = read_kustomization(folder)
    found: list[Source] = []
    for name in named_in(kustomization):
        path = (folder / name).resolve()
        if path.is_dir():
            found += sources_of(path)
        elif path.is_file():
            found += [Source(path, document) for document in documents_of(path)]
    for key, kind in (("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")):
        for generator in kustomization.get(key, []):
            document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": generator.get("name", "")}}
            found.append(Source(folder / KUSTOMIZATION, document))
    return found


def kind_of(document: Mapping[str, Any]) -> str:
    return str(document.get("kind", ""))


def name_of(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def label(document: Mapping[str, Any]) -> str:
    """Name an object for a message: `Deployment/ml-inference`."""
    return f"{kind_of(document)}/{name_of(document)}"


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Give every value inside a document with its path: `spec.templates[train].container.image`.

    List entries are named by their `name` where they have one, because an index says nothing to a reader.
    """
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            entry = inner.get("name", number) if isinstance(inner, dict) else number
            yield from walk(inner, f"{path}[{entry}]")
