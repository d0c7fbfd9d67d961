"""One label week with the model that was fitted before it, and the form in which a killed run finds it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch

from pipelines.recommender.evaluation import Outcome
from pipelines.recommender.fitting import Epoch, Fit
from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.label_week import LabelWeek
from pipelines.recommender.model import Ranker
from pipelines.recommender.sequence import EncoderShape, SequenceEncoder, SequenceModel
from pipelines.recommender.tables import Tables

Record = TypeVar("Record", LabelWeek, Outcome)


@dataclass(frozen=True)
class Evaluated:
    """Every buyer of a label week; `week` holds no candidates."""

    week: LabelWeek
    fit: Fit
    model: Outcome
    baselines: dict[str, Outcome]
    n_live: int
    tables_of: Callable[[int], Tables]

    @cached_property
    def tables(self) -> Tables:
        """Tables of the morning of the label week: built when asked for, since a backtest's would fill the memory."""
        return self.tables_of(self.week.day)

    def state(self) -> dict[str, Any]:
        """Write it as a checkpoint holds it."""
        return {
            "week": _state(self.week),
            "fit": fit_state(self.fit),
            "model": _state(self.model),
            "baselines": {name: _state(outcome) for name, outcome in self.baselines.items()},
            "n_live": self.n_live,
        }


def evaluated_from(
    state: dict[str, Any], hyperparameters: Hyperparameters, tables_of: Callable[[int], Tables]
) -> Evaluated:
    """Read what Evaluated.state wrote."""
    return Evaluated(
        _record(LabelWeek, state["week"]),
        fit_from(state["fit"], hyperparameters),
        _record(Outcome, state["model"]),
        {name: _record(Outcome, outcome) for name, outcome in state["baselines"].items()},
        state["n_live"],
        tables_of,
    )


def fit_state(fit: Fit) -> dict[str, Any]:
    """Write a fit as a checkpoint holds it."""
    return {
        "ranker": fit.ranker.state_dict(),
        "curve": [astuple(epoch) for epoch in fit.curve],
        "numbers": (fit.best_epoch, fit.n_training_customers, fit.n_validation_customers),
    }


def fit_from(state: dict[str, Any], hyperparameters: Hyperparameters) -> Fit:
    """Read what fit_state wrote."""
    weights = state["ranker"]
    ranker = Ranker(weights["mean_F"], weights["scale_F"], hyperparameters.hidden, hyperparameters.dropout)
    ranker.load_state_dict(weights)
    return Fit(ranker.eval(), [Epoch(*values) for values in state["curve"]], *state["numbers"])


def sequence_state(model: SequenceModel) -> dict[str, Any]:
    """Write a sequence encoder as a checkpoint holds it."""
    return {"shape": asdict(model.encoder.shape), "weights": model.state_dict()}


def sequence_from(state: dict[str, Any]) -> SequenceModel:
    """Read what sequence_state wrote."""
    vectors_AD = state["weights"]["vectors_A1D"][:-1]
    model = SequenceModel(SequenceEncoder(EncoderShape(**state["shape"]), len(vectors_AD)), vectors_AD)
    model.load_state_dict(state["weights"])
    return model


def without_candidates(week: LabelWeek) -> LabelWeek:
    """Let go of what only ranking needs."""
    return replace(  # copies, as an empty view holds the whole array
        week,
        described_R=week.described_R[:0].copy(),
        candidates_RC=week.candidates_RC[:0].copy(),
        features_RCF=week.features_RCF[:0].copy(),
        is_bought_RC=week.is_bought_RC[:0].copy(),
    )


def join(weeks: Sequence[LabelWeek]) -> LabelWeek:
    """Put parts of one label week together that hold no candidates."""
    return replace(
        weeks[0],
        customers_N=np.concatenate([week.customers_N for week in weeks]),
        n_bought_N=np.concatenate([week.n_bought_N for week in weeks]),
        n_history_N=np.concatenate([week.n_history_N for week in weeks]),
        idle_days_N=np.concatenate([week.idle_days_N for week in weeks]),
    )


def _state(value: Any) -> Any:
    """Arrays as tensors, records and dictionaries as dictionaries."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, LabelWeek | Outcome):
        return {field.name: _state(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {name: _state(part) for name, part in value.items()}
    return value


def _record(kind: type[Record], state: dict[str, Any]) -> Record:
    return kind(**{name: _arrays(value) for name, value in state.items()})


def _arrays(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy()
    return {name: _arrays(part) for name, part in value.items()} if isinstance(value, dict) else value
