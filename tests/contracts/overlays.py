"""The overlays as kustomize renders them, once for all contracts."""

from functools import cache
from pathlib import Path

from pipelines.gitops.building import build
from pipelines.gitops.tree import Document, Rendered, documents_of

GITOPS = Path(__file__).resolve().parents[2] / "gitops"
ENVIRONMENTS = ("production", "staging")


@cache
def overlay(application: str, environment: str) -> Rendered:
    rendered = build(GITOPS / f"apps/{application}/overlays/{environment}", f"{application}/{environment}")
    assert isinstance(rendered, Rendered), str(rendered)
    return rendered


def configuration(environment: str) -> Document:
    return documents_of(GITOPS / f"config/environments/{environment}.yaml")[0]


def only(rendered: Rendered, kind: str) -> Document:
    [document] = rendered.of_kind(kind)
    return document
