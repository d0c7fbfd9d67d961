"""Customers that can teach the ranker, as tensors: those with a bought article among their candidates."""

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
class Rows:
    """n customers; half precision, since the widest shop's features must fit in memory."""

    features_nCF: Tensor
    is_bought_nC: Tensor
    is_candidate_nC: Tensor
    """False where a week of a smaller catalogue had fewer candidates."""
    day_n: Tensor
    """First day of the label week."""

    def __len__(self) -> int:
        return len(self.features_nCF)

    def scores(self, ranker: Ranker, rows: Tensor | slice) -> Tensor:
        """Score the candidates of some rows; [rows, C]. A GPU multiplies in bfloat16, which halves its traffic."""
        features_BCF = self.features_nCF[rows].to(torch.float32)
        kind = features_BCF.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            scores_BC: Tensor = ranker(features_BCF)
        return scores_BC.to(torch.float32).masked_fill(~self.is_candidate_nC[rows], MASKED)

    def moments(self, rows: Tensor) -> tuple[Tensor, Tensor, int]:
        """Sum and sum of squares of each feature over the candidates of some rows, and how many they are."""
        described_XF = self.features_nCF[rows][self.is_candidate_nC[rows]].to(torch.float64)
        return described_XF.sum(dim=0), (described_XF**2).sum(dim=0), len(described_XF)


def rows_of(weeks: Sequence[LabelWeek], device: torch.device) -> Rows:
    """Stack the customers with a bought article among their candidates."""
    rows = [np.flatnonzero(week.is_bought_RC.any(axis=1)) for week in weeks]
    n = sum(len(row) for row in rows)
    C = max((week.features_RCF.shape[1] for week in weeks), default=1)
    F = max((week.features_RCF.shape[2] for week in weeks), default=1)
    features = torch.zeros((n, C, F), dtype=torch.float16)
    is_bought, is_candidate = torch.zeros((n, C), dtype=torch.bool), torch.zeros((n, C), dtype=torch.bool)
    days = torch.zeros(n, dtype=torch.int64)
    at = 0
    for week, row in zip(weeks, rows, strict=True):
        width = week.features_RCF.shape[1]
        features[at : at + len(row), :width] = torch.from_numpy(week.features_RCF[row])
        is_bought[at : at + len(row), :width] = torch.from_numpy(week.is_bought_RC[row])
        is_candidate[at : at + len(row), :width] = True
        days[at : at + len(row)] = week.day
        at += len(row)
    return Rows(features.to(device), is_bought.to(device), is_candidate.to(device), days)
