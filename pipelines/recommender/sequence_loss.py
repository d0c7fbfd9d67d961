"""The encoder's loss: the article bought next against every other, or against a sample that stands for all.

Legend: N positions, S articles compared, D width, A articles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

CHUNK_POSITIONS = 512
"""Scores held at once are this many × S: small enough for a core's cache, which makes it 4 times as fast."""


class SoftmaxLoss(torch.autograd.Function):
    """Mean cross-entropy of the bought article among S; scores exist for a chunk of positions at a time.

    The gradient is made on the way, so no [N, S] array is ever held.
    """

    @staticmethod
    def forward(
        ctx: Any,
        state_ND: Tensor,
        vectors_SD: Tensor,
        target_N: Tensor,
        log_weight_S: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """log_weight_S: for how many articles each compared one stands, in logs; its own target stands for itself."""
        n = len(target_N)
        low_SD = vectors_SD.to(dtype)
        low_S = None if log_weight_S is None else log_weight_S.to(dtype)
        gradient_ND = torch.empty_like(state_ND)
        gradient_SD = torch.zeros_like(vectors_SD)
        loss = 0.0
        for start in range(0, n, CHUNK_POSITIONS):
            chunk = slice(start, start + CHUNK_POSITIONS)
            low_ND, bought_N = state_ND[chunk].to(dtype), target_N[chunk]
            row_N = torch.arange(len(bought_N))
            score_NS = low_ND @ low_SD.T
            if low_S is not None:
                score_NS += low_S
                score_NS[row_N, bought_N] -= low_S[bought_N]
            probability_NS = torch.softmax(score_NS, dim=1)
            loss -= float(probability_NS[row_N, bought_N].float().clamp(min=1e-30).log().sum())
            probability_NS[row_N, bought_N] -= 1.0
            gradient_ND[chunk] = probability_NS @ low_SD
            gradient_SD += (low_ND.T @ probability_NS).T  # this way round no [N, S] array is transposed
        ctx.save_for_backward(gradient_ND / n, gradient_SD / n)
        return state_ND.new_tensor(loss / n)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        gradient_ND, gradient_SD = ctx.saved_tensors
        return gradient_ND * gradients[0], gradient_SD * gradients[0], None, None, None


def compared_articles(
    target_N: Tensor, count_A: Tensor, n_compared: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Choose the articles compared in a batch: ids [S], log weights [S] or None for all, and targets among them."""
    n_articles = len(count_A)
    if n_articles <= n_compared:
        return torch.arange(n_articles), None, target_N
    drawn_S = torch.from_numpy(rng.choice(n_articles, n_compared, replace=False))
    chosen_S, slot_N = torch.unique(torch.cat([target_N, drawn_S]), return_inverse=True)
    # An article is there when it was drawn or is a target: the chance of that is what it must be divided by.
    share_S = count_A[chosen_S] / count_A.sum()
    is_in_S = 1.0 - (1.0 - n_compared / n_articles) * torch.exp(-share_S * len(target_N))
    return chosen_S, -is_in_S.log().float(), slot_N[: len(target_N)]
