"""Hera's models, built so that a misspelled field is an error."""

from typing import Any, TypeVar

from pydantic import BaseModel

_Model = TypeVar("_Model", bound=BaseModel)


def exact(model: type[_Model], **fields: Any) -> _Model:
    """Build one of Hera's models and refuse misspelled fields, which Hera drops and Argo never sees."""
    return model.model_validate(fields, extra="forbid")
