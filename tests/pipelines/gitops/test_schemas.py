from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.errors import UsageError
from pipelines.gitops.schemas import Schemas, read_schemas

# As operators publish them: one file may hold several, and Kubernetes' own words stand in the schema.
DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.example.dev}
spec:
  names: {kind: Lamp}
  versions:
    - name: v1
      served: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            apiVersion: {type: string}
            kind: {type: string}
            metadata: {type: object}
            spec:
              type: object
              required: [port]
              properties:
                port: {x-kubernetes-int-or-string: true}
                match: {type: string, enum: [=, '!=']}
                free: {type: object, x-kubernetes-preserve-unknown-fields: true}
                owner: {type: string, nullable: true}
    - {name: v0, served: false, schema: {openAPIV3Schema: {type: object}}}
"""


@pytest.fixture
def schemas(tmp_path: Path) -> Schemas:
    (tmp_path / "lamps.yaml").write_text(DEFINITION)
    return read_schemas(tmp_path)


def found(schemas: Schemas, version: str = "v1", **spec: Any) -> list[tuple[str, str, str]]:
    lamp = {"apiVersion": f"example.dev/{version}", "kind": "Lamp", "metadata": {"name": "one"}, "spec": spec}
    return [(finding.field, finding.what, finding.mend) for finding in schemas.check(lamp, "lamp.yaml")]


def test_what_the_definition_allows_is_clean(schemas: Schemas) -> None:
    assert found(schemas, port=80, match="=", free={"any": 1}, owner=None) == []
    assert found(schemas, port="http") == []


def test_an_unknown_field_is_refused_with_the_nearest_known_one(schemas: Schemas) -> None:
    assert found(schemas, port=80, ports=1) == [
        ("Lamp/one.spec.ports", "is not a field of this kind", "did you mean port?")
    ]


def test_a_missing_field_and_a_wrong_value_are_found(schemas: Schemas) -> None:
    assert [what for _, what, _ in found(schemas)] == ["'port' is a required property"]
    assert [field for field, _, _ in found(schemas, port=80, match="<")] == ["Lamp/one.spec.match"]


def test_a_kind_or_version_without_a_schema_is_named_as_not_checked(schemas: Schemas) -> None:
    assert found(schemas, version="v0", lumen=3) == []
    assert schemas.unknown == {"Lamp (example.dev/v0)"}


def test_a_core_kind_needs_no_folder() -> None:
    document = yaml.safe_load("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, dat: {}}")
    [finding] = read_schemas(None).check(document, "a.yaml")
    assert (finding.field, finding.what) == (
        "ConfigMap/a",
        "Additional properties are not allowed ('dat' was unexpected)",
    )


def test_metadata_of_a_custom_kind_is_checked_although_its_schema_leaves_it_open(schemas: Schemas) -> None:
    document = {"apiVersion": "example.dev/v1", "kind": "Lamp", "metadata": {"name": "one", "label": {}}}
    assert [finding.field for finding in schemas.check(document, "lamp.yaml")] == ["Lamp/one.metadata.label"]


def test_a_folder_without_schemas_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no schema"):
        read_schemas(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        read_schemas(tmp_path / "none")
