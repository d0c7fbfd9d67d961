"""Hyperparameters: the list that a user can ask for, and what a run is given as JSON."""

import io
import json

import pytest
from rich.console import Console

from pipelines.errors import UsageError
from pipelines.recommender.hyperparameters import Hyperparameters, described, parse_hyperparameters


def test_every_hyperparameter_is_listed_with_its_default_and_its_meaning() -> None:
    shown = Console(width=200, file=io.StringIO(), record=True)
    shown.print(described())
    lines = {line.split()[0]: line for line in shown.export_text().splitlines() if line.strip()}
    for name, field in Hyperparameters.model_fields.items():
        assert field.description, name
        assert json.dumps(field.default) in lines[name]
        assert field.description in lines[name]


def test_all_bad_hyperparameters_are_named_at_once() -> None:
    with pytest.raises(UsageError) as raised:
        parse_hyperparameters('{"patiense": 3, "hidden": -1, "batch_size": 0}')
    for part in ("did you mean 'patience'?", "hidden = -1: ", "batch_size = 0: "):
        assert part in str(raised.value)


@pytest.mark.parametrize("text", ["[" * 100_000, f'{{"seed": {"9" * 5000}}}'], ids=["nested", "digits"])
def test_hyperparameters_that_no_parser_takes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="hyperparameters cannot be read"):
        parse_hyperparameters(text)


def test_no_hyperparameters_are_the_defaults() -> None:
    assert parse_hyperparameters("") == parse_hyperparameters("{}") == Hyperparameters()
