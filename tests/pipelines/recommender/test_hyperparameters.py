"""The list of hyperparameters that a user can ask for."""

import io

from rich.console import Console

from pipelines.recommender.hyperparameters import Hyperparameters, described


def test_every_hyperparameter_is_listed_with_its_default_and_its_meaning() -> None:
    shown = Console(width=200, file=io.StringIO(), record=True)
    shown.print(described())
    lines = {line.split()[0]: line for line in shown.export_text().splitlines() if line.strip()}
    for name, field in Hyperparameters.model_fields.items():
        assert field.description, name
        assert str(field.default) in lines[name]
        assert field.description in lines[name]
