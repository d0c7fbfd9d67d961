"""Hold rendered objects against schemas: Kubernetes' own kinds, and custom kinds with unknown fields refused."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import jsonschema
import kubernetes_validate
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator

from pipelines.errors import UsageError
from pipelines.gitops.findings import Finding
from pipelines.gitops.tree import Document, kind_of, label, load_all
from pipelines.steps.fingerprint import canonical_json

KUBERNETES = "1.36"
CORE_GROUPS = ("", "apps", "autoscaling", "batch", "policy")
ARGO = "argoproj.io/v1alpha1"
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
        fault = _core_fault(canonical_json(document))
        if fault is NO_SCHEMA:
            yield from self._custom(document, file)
        elif fault is not None:
            yield Finding(file, _path(document, fault.path), _words(fault.message), MEND)

    def _custom(self, document: Document, file: str) -> Iterator[Finding]:
        for name in sorted(set(document["metadata"]) - METADATA):
            yield Finding(file, f"{label(document)}.metadata.{name}", *_unknown_field(name, METADATA))
        version = document["apiVersion"].rpartition("/")[2]
        group = document["apiVersion"].rpartition("/")[0]
        if group in CORE_GROUPS or group.endswith(".k8s.io"):
            what = f"Kubernetes {KUBERNETES} has no {kind_of(document)} of {document['apiVersion']}"
            yield Finding(file, f"{label(document)}.apiVersion", what, "write the kind and version that it has")
            return
        validator = self.validators.get((kind_of(document), version))
        if validator is None:
            # Argo's schemas come without a version; all of its kinds have this one
            validator = self.validators.get((kind_of(document), ""))
            if validator is not None and document["apiVersion"] != ARGO:
                what = f"is {document['apiVersion']}, and {kind_of(document)} is of {ARGO}"
                yield Finding(file, f"{label(document)}.apiVersion", what, f"write {ARGO}")
                return
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


NO_SCHEMA = jsonschema.ValidationError("no schema")


@cache
def _core_fault(document: str) -> jsonschema.ValidationError | None:
    """Check one of Kubernetes' own kinds; remembered, because each call parses a megabyte of definitions."""
    try:
        kubernetes_validate.validate(json.loads(document), KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return cast(jsonschema.ValidationError, error)
    except kubernetes_validate.SchemaNotFoundError:
        return NO_SCHEMA
    return None


def read_schemas(folder: Path | None) -> Schemas:
    """Read a folder of schemas, `Kind.json` or `kind_version.json`, or of CustomResourceDefinitions in YAML."""
    if folder is None:
        return Schemas({})
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder; pass --crd-schemas a folder of JSON schemas or CRDs, or unset CRD_SCHEMAS"
        )
    return Schemas(_validators(folder))


@lru_cache(maxsize=4)
def _validators(folder: Path) -> Mapping[tuple[str, str], Validator]:
    found: dict[tuple[str, str], Schema] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            stem, _, version = path.stem.partition("_")
            found[SPELLED.get(stem, stem), version] = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix in (".yaml", ".yml"):
            text = path.read_text(encoding="utf-8")
            for definition in load_all(text) if "kind: CustomResourceDefinition" in text else ():
                if isinstance(definition, dict) and kind_of(definition) == "CustomResourceDefinition":
                    found |= _versions(definition)
    if not found:
        raise UsageError(f"{folder} holds no schema: expected Kind.json, or CustomResourceDefinitions in YAML")
    return {key: jsonschema.Draft7Validator(closed(schema)) for key, schema in found.items()}


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


# Schema files are named in lower case by some publishers.
SPELLED = {"externalsecret": "ExternalSecret", "prometheusrule": "PrometheusRule", "servicemonitor": "ServiceMonitor"}


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
