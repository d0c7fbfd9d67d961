"""Every knob of training, validated at the edge; `python -m pipelines.recommender.hyperparameters` lists them."""

from __future__ import annotations

import difflib
import json
from typing import Any, Literal, Self

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from rich.console import Console
from rich.table import Table

from pipelines.edge import run_app
from pipelines.errors import UsageError
from pipelines.recommender.interactions import Interactions

HISTORY_SIZES = (64, 128, 256, 512)
LARGE_BASKET = 5.0


class Hyperparameters(BaseModel):
    """The `hyperparameters` JSON of a run; the defaults adapt to small and large shops by themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    seed: int = Field(7, ge=0, le=2**31 - 1, description="Seeds weights, batches and samples.")
    max_history: int = Field(
        0, ge=0, le=512, description="Newest purchases of a customer that the model reads; 0 = by the data, 64 to 512."
    )
    n_candidates: int = Field(
        0, ge=0, le=2000, description="Articles that retrieval hands to the ranker; 0 = by the data, 256 to 612."
    )
    n_siblings: int = Field(8, ge=1, le=64, description="Colour variants kept for each article.")
    n_neighbours: int = Field(16, ge=1, le=128, description="Articles bought together kept for each article.")
    sequence_epochs: int = Field(
        0,
        ge=0,
        le=500,
        description="Epochs of the sequence encoder, one more signal for the ranker; 0 = without.",
    )
    training_weeks: int = Field(52, ge=2, le=200, description="At most this many label weeks to learn from.")
    training_customers: int = Field(
        30_000, ge=100, description="Stop adding label weeks at this many customers with a purchase."
    )
    validation_customers: int = Field(
        2_000,
        ge=1,
        description="Validation grows from one week until it holds this many customers (a quarter at most).",
    )
    hidden: int = Field(32, ge=0, le=512, description="Width of the ranker's hidden layer; 0 = linear.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of the hidden layer that is left out in each step.")
    learning_rate: float = Field(0.01, gt=0, le=1, description="Of Adam.")
    weight_decay: float = Field(1e-3, ge=0, le=100, description="L2 on the standardised weights.")
    batch_size: int = Field(64, ge=1, description="Customers in a batch.")
    max_epochs: int = Field(30, ge=1, le=1000, description="Stop here even if the validation loss still falls.")
    patience: int = Field(4, ge=1, description="Epochs without a better validation loss before stopping.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to fit; auto takes a GPU when there is one."
    )
    ablation: bool = Field(True, description="Measure what each group of signals adds; costs one small fit for each.")
    threads: int = Field(2, ge=1, le=256, description="Threads that describe customers side by side.")

    @model_validator(mode="after")
    def _candidates_outnumber_answers(self) -> Self:
        # A shop may ask for 100 articles and exclude every one in its history.
        if self.n_candidates and self.n_candidates < 100 + self.max_history:
            raise ValueError(
                f"n_candidates = {self.n_candidates} must be at least 100 + max_history = {100 + self.max_history}"
            )
        return self


def described() -> Table:
    """List every hyperparameter with its default and what it means."""
    table = Table("name", "default", "what it is", box=None)
    for name, field in Hyperparameters.model_fields.items():
        table.add_row(name, json.dumps(field.default), field.description or "")
    return table


def adapted(hyperparameters: Hyperparameters, past: Interactions, horizon_days: int) -> Hyperparameters:
    """Settle what the data decides, from the purchases of the last year of `past`.

    max_history: the smallest of HISTORY_SIZES that holds a year of nine customers in ten. n_candidates: 256, or 512
    where customers buy more than LARGE_BASKET different articles in a label window; at least 100 + max_history, so that
    100 articles remain for a customer who wants nothing again. Raises UsageError for a given one that is smaller.
    """
    last_day = int(past.day.max(initial=0))
    year = past.between(last_day - 363, last_day + 1)
    per_customer = np.bincount(year.customer, minlength=1)
    usual = float(np.quantile(per_customer[per_customer > 0], 0.9)) if len(year) else 0.0
    fitting = next((size for size in HISTORY_SIZES if size >= usual), HISTORY_SIZES[-1])
    max_history = hyperparameters.max_history or fitting
    window = year.customer.astype(np.int64) * 1000 + (last_day - year.day) // horizon_days
    n_windows, n_bought = len(np.unique(window)), len(np.unique(window * year.n_articles + year.article))
    breadth = 512 if n_windows and n_bought / n_windows > LARGE_BASKET else 256
    n_candidates = hyperparameters.n_candidates or max(breadth, 100 + max_history)
    if n_candidates < 100 + max_history:
        raise UsageError(
            f"hyperparameters: n_candidates = {n_candidates} must be at least 100 + max_history, and these purchases "
            f"ask for max_history = {max_history}: give n_candidates = {100 + max_history} or more, or a smaller "
            "max_history"
        )
    return hyperparameters.model_copy(update={"max_history": max_history, "n_candidates": n_candidates})


def parse_hyperparameters(text: str) -> Hyperparameters:
    """Parse the JSON of `--hyperparameters`.

    Raises UsageError that names every problem at once, and the nearest known name of an unknown one.
    """
    try:
        given = json.loads(text or "{}", object_pairs_hook=_each_once)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"hyperparameters is not JSON: {error.msg} at character {error.pos} of {text!r}; "
            "write an object such as '{\"hidden\": 16}'"
        ) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists without end
        raise UsageError(
            f"hyperparameters cannot be read ({error}); write an object such as '{{\"hidden\": 16}}'"
        ) from error
    if not isinstance(given, dict):
        raise UsageError(f"hyperparameters must be a JSON object such as '{{\"hidden\": 16}}', got {text!r}")
    try:
        return Hyperparameters.model_validate(given)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            if not name:
                problems.append(problem["msg"].removeprefix("Value error, "))
                continue
            if problem["type"] == "extra_forbidden":
                nearest = difflib.get_close_matches(name, Hyperparameters.model_fields, n=1)
                hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
                problems.append(f"{name!r} is not a hyperparameter{hint}")
            else:
                problems.append(f"{name} = {problem['input']!r}: {problem['msg']}")
        raise UsageError("hyperparameters: " + "; ".join(problems)) from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    given = dict(pairs)
    for name in given:
        if sum(name == other for other, _ in pairs) > 1:
            raise UsageError(f"hyperparameters names {name!r} more than once; keep one")
    return given


app = typer.Typer(add_completion=False)


@app.command()
def main() -> None:
    """List the hyperparameters of a run, which are given as `-p hyperparameters='{"hidden": 16}'`."""
    Console().print(described())


if __name__ == "__main__":
    run_app(app)
