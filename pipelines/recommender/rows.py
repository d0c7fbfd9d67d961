"""Customers that can teach the ranker: those with a bought article among their candidates, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.recommender.label_week import LabelWeek
from pipelines.recommender.model import Ranker

MASKED = -1e9


@dataclass(frozen=True)
class Batch:
    """B customers as the ranker reads them, on its device."""

    features_BCF: Tensor
    is_bought_BC: Tensor
    is_candidate_BC: Tensor
    """False where a week of a smaller catalogue had fewer candidates."""

    def scores(self, ranker: Ranker) -> Tensor:
        """Score the candidates; [B, C]. A GPU multiplies in bfloat16, which halves its traffic."""
        kind = self.features_BCF.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            scores_BC: Tensor = ranker(self.features_BCF)
        return scores_BC.to(torch.float32).masked_fill(~self.is_candidate_BC, MASKED)


class Rows:
    """n customers of some label weeks, read where they lie: a second copy of the widest shop's would be gigabytes."""

    def __init__(self, weeks: Sequence[LabelWeek], device: torch.device) -> None:
        found = [np.flatnonzero(week.is_bought_RC.any(axis=1)) for week in weeks]
        self._weeks = weeks
        self._week_n = np.repeat(np.arange(len(weeks)), [len(rows) for rows in found])
        self._row_n = np.concatenate([np.empty(0, dtype=np.intp), *found])
        shapes = [week.features_RCF.shape for week in weeks]
        self._n_candidates = max((shape[1] for shape in shapes), default=1)
        self._n_features = max((shape[2] for shape in shapes), default=1)
        self._device = device

    def __len__(self) -> int:
        return len(self._row_n)

    def days(self, rows: Tensor) -> list[int]:
        """First day of each row's label week."""
        return [self._weeks[week].day for week in self._week_n[rows.numpy()]]

    def take(self, rows: Tensor) -> Batch:
        """Put some rows side by side, on the device."""
        shape = (len(rows), self._n_candidates)
        features_BCF = np.zeros((*shape, self._n_features), dtype=np.float16)
        is_bought_BC, is_candidate_BC = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
        for b, n in enumerate(rows.tolist()):
            week, row = self._weeks[self._week_n[n]], self._row_n[n]
            width = week.features_RCF.shape[1]
            features_BCF[b, :width] = week.features_RCF[row]
            is_bought_BC[b, :width] = week.is_bought_RC[row]
            is_candidate_BC[b, :width] = True
        return Batch(
            torch.from_numpy(features_BCF).to(self._device).to(torch.float32),
            torch.from_numpy(is_bought_BC).to(self._device),
            torch.from_numpy(is_candidate_BC).to(self._device),
        )

    def moments(self, rows: Tensor) -> tuple[Tensor, Tensor, int]:
        """Sum and sum of squares of each feature over the candidates of some rows, and how many they are."""
        total_F = torch.zeros(self._n_features, dtype=torch.float64, device=self._device)
        squares_F, n = torch.zeros_like(total_F), 0
        for part in torch.split(rows, 64):
            batch = self.take(part)
            described_XF = batch.features_BCF[batch.is_candidate_BC].to(torch.float64)
            total_F += described_XF.sum(dim=0)
            squares_F += (described_XF**2).sum(dim=0)
            n += len(described_XF)
        return total_F, squares_F, n
