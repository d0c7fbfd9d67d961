"""Fit the ranker on past label weeks, stopping early on the weeks just before the cutoff."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.errors import DataGateError
from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.interactions import Bool, Int32
from pipelines.recommender.label_week import LabelWeek
from pipelines.recommender.metrics import average_precision
from pipelines.recommender.model import Ranker

MASKED = -1e9


@dataclass(frozen=True)
class Epoch:
    """One line of the training curve."""

    epoch: int
    training_loss: float
    validation_loss: float
    validation_map_at_12: float


@dataclass(frozen=True)
class Fit:
    ranker: Ranker
    curve: list[Epoch]
    best_epoch: int
    n_training_customers: int
    n_validation_customers: int


def split_validation(
    weeks: Sequence[LabelWeek], hyperparameters: Hyperparameters
) -> tuple[list[LabelWeek], list[LabelWeek]]:
    """Split label weeks (newest first) into training and validation weeks.

    Validation is the newest week; a small shop's week is mostly noise, so more are added until they hold
    `validation_customers` buyers or a quarter of all weeks.
    """
    n_validation, n_customers = 0, 0
    for week in weeks[: max(1, len(weeks) // 4)]:
        n_validation += 1
        n_customers += len(week.customers_N)
        if n_customers >= hyperparameters.validation_customers:
            break
    return list(weeks[n_validation:]), list(weeks[:n_validation])


@dataclass(frozen=True)
class Rows:
    """Customers that can teach, n of them; half precision, since the widest shop's features must fit in memory."""

    features_nCF: Tensor
    is_bought_nC: Tensor
    is_candidate_nC: Tensor
    """False where a week of a smaller catalogue had fewer candidates."""

    def __len__(self) -> int:
        return len(self.features_nCF)

    def scores(self, ranker: Ranker, rows: Tensor | slice) -> Tensor:
        """Score the candidates of some rows; [rows, C]."""
        scores_BC: Tensor = ranker(self.features_nCF[rows].to(torch.float32))
        return scores_BC.masked_fill(~self.is_candidate_nC[rows], MASKED)


def _gather(weeks: Sequence[LabelWeek]) -> Rows:
    """Stack the customers with a bought article among their candidates."""
    rows = [np.flatnonzero(week.is_bought_RC.any(axis=1)) for week in weeks]
    n = sum(len(row) for row in rows)
    C = max((week.features_RCF.shape[1] for week in weeks), default=1)
    F = max((week.features_RCF.shape[2] for week in weeks), default=1)
    features = torch.zeros((n, C, F), dtype=torch.float16)
    is_bought, is_candidate = torch.zeros((n, C), dtype=torch.bool), torch.zeros((n, C), dtype=torch.bool)
    at = 0
    for week, row in zip(weeks, rows, strict=True):
        width = week.features_RCF.shape[1]
        features[at : at + len(row), :width] = torch.from_numpy(week.features_RCF[row])
        is_bought[at : at + len(row), :width] = torch.from_numpy(week.is_bought_RC[row])
        is_candidate[at : at + len(row), :width] = True
        at += len(row)
    return Rows(features, is_bought, is_candidate)


def listwise_loss(scores_BC: Tensor, is_bought_BC: Tensor) -> Tensor:
    """Cross-entropy of the softmax over a customer's candidates against the bought ones (Cao et al. 2007, ListNet).

    Each customer weighs the same, whatever the size of the basket.
    """
    log_share_BC = scores_BC.log_softmax(dim=1)
    target_BC = is_bought_BC.to(scores_BC.dtype)
    return -((log_share_BC * target_BC).sum(dim=1) / target_BC.sum(dim=1)).mean()


def ranked_hits(ranker: Ranker, week: LabelWeek, k: int = 100) -> tuple[Bool, Int32]:
    """Rank a week's candidates: hits of every customer [N, k] and articles of the described ones [R, k], best first."""
    hits_NK = np.zeros((len(week.customers_N), k), dtype=np.bool_)
    width = min(k, week.candidates_RC.shape[1])
    order_RK = np.zeros((len(week.described_R), width), dtype=np.int64)
    ranker.eval()
    with torch.inference_mode():
        for start in range(0, len(week.described_R), 256):
            scores_BC = ranker(torch.from_numpy(week.features_RCF[start : start + 256]).to(torch.float32))
            order_RK[start : start + 256] = scores_BC.topk(width, dim=1).indices.numpy()
    hits_NK[week.described_R, :width] = np.take_along_axis(week.is_bought_RC, order_RK, 1)
    return hits_NK, np.take_along_axis(week.candidates_RC, order_RK, 1)


def fit_ranker(
    training: Sequence[LabelWeek],
    validation: Sequence[LabelWeek],
    hyperparameters: Hyperparameters,
    n_epochs: int | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Fit:
    """Fit a ranker; without n_epochs it stops early on the validation weeks and keeps the best epoch's weights.

    Raises DataGateError when no training row has a bought candidate, or when the loss stops being a number.
    """
    generator = torch.Generator().manual_seed(hyperparameters.seed)
    rows = _gather(training)
    if not len(rows):
        raise DataGateError(
            "nothing to learn from: no customer of the training weeks bought an article that retrieval found; "
            "the history before cutoff_date is too short or too sparse (give at least three weeks with sales)"
        )
    sample = torch.randperm(len(rows), generator=generator)[:2000]
    described = rows.features_nCF[sample][rows.is_candidate_nC[sample]].to(torch.float32)
    mean, deviation = described.mean(dim=0), described.std(dim=0, correction=0)
    # A feature that never varies here must not explode when it does elsewhere.
    scale = torch.where(deviation > 1e-3, 1.0 / deviation.clamp(min=1e-3), torch.zeros_like(deviation))
    torch.manual_seed(hyperparameters.seed)
    ranker = Ranker(mean, scale, hyperparameters.hidden, hyperparameters.dropout)
    optimizer = torch.optim.Adam(ranker.parameters(), lr=hyperparameters.learning_rate)
    held = _gather(validation)
    curve: list[Epoch] = []
    best: tuple[float, int, dict[str, Tensor]] = (math.inf, 0, copy.deepcopy(ranker.state_dict()))
    for epoch in range(1, (n_epochs or hyperparameters.max_epochs) + 1):
        ranker.train()
        total = 0.0
        order = torch.randperm(len(rows), generator=generator)
        for batch in torch.split(order, hyperparameters.batch_size):
            loss = listwise_loss(rows.scores(ranker, batch), rows.is_bought_nC[batch])
            penalty = sum((weight**2).sum() for weight in ranker.parameters()) * hyperparameters.weight_decay
            if not torch.isfinite(loss):
                raise DataGateError(
                    f"training loss became {loss.item()} in epoch {epoch}; lower learning_rate "
                    f"(now {hyperparameters.learning_rate}) or look for absurd prices in the data"
                )
            optimizer.zero_grad()
            (loss + penalty).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() * len(batch)
        ranker.eval()
        validation_loss, validation_map = math.nan, math.nan
        if len(held):
            with torch.inference_mode():
                parts = [slice(start, start + 256) for start in range(0, len(held), 256)]
                scores_NC = torch.cat([held.scores(ranker, part) for part in parts])
                validation_loss = listwise_loss(scores_NC, held.is_bought_nC).item()
        if len(validation):
            values = [average_precision(ranked_hits(ranker, week, 12)[0], week.n_bought_N) for week in validation]
            validation_map = float(np.concatenate(values).mean())
        curve.append(Epoch(epoch, total / len(rows), validation_loss, validation_map))
        on_epoch(curve[-1])
        if n_epochs is not None:
            best = (validation_loss, epoch, ranker.state_dict())
        elif validation_loss < best[0] or not len(held):
            best = (validation_loss, epoch, copy.deepcopy(ranker.state_dict()))
        elif epoch - best[1] >= hyperparameters.patience:
            break
    ranker.load_state_dict(best[2])
    ranker.eval()
    return Fit(ranker, curve, max(best[1], 1), len(rows), len(held))
