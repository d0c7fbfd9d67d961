"""Hold rendered objects against schemas: Kubernetes' own kinds, and custom kinds with unknown fields refused."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import jsonschema
import kubernetes_validate
import yaml
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator

from pipelines.errors import UsageError
from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Document, kind_of, label

KUBERNETES = "1.36"
METADATA = {"name", "namespace", "labels", "annotations", "finalizers", "generateName", "ownerReferences"}
MEND = "correct the field; a cluster refuses it or drops it silently"

Schema = dict[str, Any]


@dataclass
class Schemas:
    """Schemas of custom kinds by (kind, version), closed against unknown fields."""

    validators: Mapping[tuple[str, str], Validator]
    unknown: set[str] = field(default_factory=set)
    """Kinds that were met and could not be checked, as kind and apiVersion."""

    def check(self, document: Document, file: str) -> Iterator[Finding]:
        """Check one object of whatever kind."""
        if not isinstance(document.get("metadata"), dict) or not document.get("apiVersion") or not kind_of(document):
            yield Finding(
                file, label(document), "is no Kubernetes object", "give it apiVersion, kind and metadata.name"
            )
            return
        for name in sorted(set(document["metadata"]) - METADATA):
            yield Finding(file, f"{label(document)}.metadata.{name}", *_unknown_field(name, METADATA))
        try:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield Finding(file, _path(document, error.path), _words(error.message), MEND)
        except kubernetes_validate.SchemaNotFoundError:
            yield from self._custom(document, file)

    def _custom(self, document: Document, file: str) -> Iterator[Finding]:
        version = document["apiVersion"].rpartition("/")[2]
        validator = self.validators.get((kind_of(document), version)) or self.validators.get((kind_of(document), ""))
        if validator is None:
            self.unknown.add(f"{kind_of(document)} ({document['apiVersion']})")
            return
        for error in validator.iter_errors(document):
            deepest = best_match([error]) or error
            if deepest.validator == "additionalProperties" and isinstance(deepest.instance, dict):
                known = set(cast(Schema, deepest.schema).get("properties", {}))
                for name in sorted(set(deepest.instance) - known):
                    yield Finding(
                        file, f"{_path(document, deepest.absolute_path)}.{name}", *_unknown_field(name, known)
                    )
            else:
                yield Finding(file, _path(document, deepest.absolute_path), _words(deepest.message), MEND)


def read_schemas(folder: Path | None) -> Schemas:
    """Read a folder of schemas, `Kind.json` or `kind_version.json`, or of CustomResourceDefinitions in YAML."""
    if folder is None:
        return Schemas({})
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder; pass --crd-schemas a folder of JSON schemas or CRDs, or unset CRD_SCHEMAS"
        )
    found: dict[tuple[str, str], Schema] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            schema = json.loads(path.read_text(encoding="utf-8"))
            kinds = [schema.get("properties", {}).get("kind", {}).get(key) for key in ("const", "default")]
            stem, _, version = path.stem.partition("_")
            found[next(filter(None, kinds), stem), version] = schema
        elif path.suffix in (".yaml", ".yml"):
            for definition in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                if isinstance(definition, dict) and kind_of(definition) == "CustomResourceDefinition":
                    found |= _versions(definition)
    if not found:
        raise UsageError(f"{folder} holds no schema: expected Kind.json, or CustomResourceDefinitions in YAML")
    return Schemas({_key(key): jsonschema.Draft7Validator(closed(schema)) for key, schema in found.items()})


def closed(schema: Schema) -> Schema:
    """Refuse unknown fields wherever a schema lists the known ones."""
    schema = copy.deepcopy(schema)
    for inner in _schemas_in(schema):
        open_on_purpose = inner.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in inner
        if inner.get("properties") and not open_on_purpose:
            inner["additionalProperties"] = False
        if inner.get("x-kubernetes-int-or-string"):
            inner.pop("type", None)
            inner["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        if inner.get("nullable") and isinstance(inner.get("type"), str):
            inner["type"] = [inner["type"], "null"]
    schema.get("properties", {}).pop("status", None)  # the controller's to write
    return schema


def _schemas_in(schema: Any) -> Iterator[Schema]:
    if not isinstance(schema, dict):
        return
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from _schemas_in(inner)
    for key in ("items", "additionalProperties"):
        yield from _schemas_in(schema.get(key))


def _versions(definition: Document) -> dict[tuple[str, str], Schema]:
    spec = definition["spec"]
    return {
        (spec["names"]["kind"], version["name"]): version["schema"]["openAPIV3Schema"]
        for version in spec["versions"]
        if version.get("served") and "schema" in version
    }


# Files of one kind a file are named as people like; what they check is the kind as Kubernetes spells it.
SPELLED = {"externalsecret": "ExternalSecret", "prometheusrule": "PrometheusRule", "servicemonitor": "ServiceMonitor"}


def _key(key: tuple[str, str]) -> tuple[str, str]:
    return SPELLED.get(key[0], key[0]), key[1]


def _path(document: Document, parts: Any) -> str:
    path, value = label(document), document
    for part in parts:
        value = value[part]
        name = value.get("name", part) if isinstance(part, int) and isinstance(value, dict) else part
        path += f"[{name}]" if isinstance(part, int) else f".{part}"
    return path


def _unknown_field(name: str, known: set[str]) -> tuple[str, str]:
    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    mend = f"did you mean {nearest[0]}?" if nearest else f"remove it; there are: {', '.join(sorted(known)[:12])}"
    return "is not a field of this kind", mend


def _words(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:150]} … {message[-140:]}"
