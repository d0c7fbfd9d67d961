"""How a customer buys articles of a candidate's kind: when last, how often, in which rhythm; a part of the graph.

Legend: B customers in the batch, L history length, T purchases of each kind side by side, K kinds, C candidates,
D time decays and the count, R rows of sums, A articles.

A grocer's customer buys milk every week, not always the same; a fashion shop's one goes back to a department.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from pipelines.recommender.interactions import ATTRIBUTES
from pipelines.recommender.retrieval import DECAYS, NEVER, SCALES, History, register
from pipelines.recommender.tables import Tables

KINDS = ("product_type", "department")
"""Attributes whose values are kinds."""
COLUMNS = tuple(ATTRIBUTES.index(kind) for kind in KINDS)
SCALE = SCALES[0]
KIND_PLANES = tuple(
    f"taste_{kind}_{what}"
    for what in (*(f"{tau:g}d" for tau in DECAYS), "count", "age", "gap", "due", "share", "in_last_visit")
    for kind in KINDS
)


class Kinds(nn.Module):
    """From a history to what it says of each candidate's kinds."""

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        numbers_AK = tables.attributes_A1V[:-1, list(COLUMNS)]
        first_K, last_K = numbers_AK.min(axis=0), numbers_AK.max(axis=0)
        ends_K = np.cumsum(last_K - first_K + 1)
        shift_K = first_K - np.concatenate([[0], ends_K[:-1]])
        padding_1K = np.full((1, len(KINDS)), ends_K[-1])
        self.n_kinds = int(ends_K[-1]) + 1
        buffers = {
            "kinds_A1K": np.concatenate([numbers_AK - shift_K, padding_1K]).astype(np.int32),
            "shift_K11": shift_K.astype(np.float32).reshape(-1, 1, 1),
        }
        register(self, buffers)

    kinds_A1K: Tensor
    shift_K11: Tensor

    def forward(self, history: History, values_VBC: Tensor, n_visits_B1: Tensor, since_B1: Tensor) -> Tensor:
        """Describe each candidate's kinds: one plane for each of KIND_PLANES, [10 K, B, C].

        values_VBC: the candidates' attribute values as Tables numbers them; n_visits_B1: days with a purchase;
        since_B1: days since the newest one. Pieces are counted, not days: of one kind they are not side by side.
        """
        articles_BL, age_BL, decayed_BLD, _ = history
        B, K = articles_BL.shape[0], len(KINDS)
        start_B1 = torch.arange(B).unsqueeze(1) * self.n_kinds
        row_BLK = embedding(articles_BL, self.kinds_A1K).to(torch.int64)
        row_BT = torch.cat([row_BLK[:, :, k] for k in range(K)], dim=1) + start_B1
        row_X, age_X = row_BT.flatten(), torch.cat([age_BL] * K, dim=1).flatten()
        R = B * self.n_kinds
        scaled_BLD = SCALE * decayed_BLD
        sums_RD = torch.ones((R, decayed_BLD.shape[2]))
        sums_RD = sums_RD.index_put((row_X,), torch.cat([scaled_BLD] * K, dim=1).flatten(0, 1), accumulate=True)
        newest_R = torch.full((R,), NEVER).scatter_reduce(0, row_X, age_X, reduce="amin")
        oldest_R = torch.zeros(R).scatter_reduce(0, row_X, age_X, reduce="amax")

        values_KBC = torch.cat([values_VBC[v : v + 1] for v in COLUMNS])
        # The dead slot's values are 0, whatever the numbers of its kinds would be.
        at_KBC = (values_KBC - self.shift_K11).clamp(min=0.0).to(torch.int64) + start_B1
        # All that is looked up of a kind is one row, as it is the lookup that costs.
        found_RX = torch.cat([sums_RD, newest_R.unsqueeze(1), oldest_R.unsqueeze(1)], dim=1)
        found_XKBC = embedding(at_KBC, found_RX).permute(3, 0, 1, 2)
        sums_DKBC, newest_1KBC, oldest_1KBC = torch.split(found_XKBC, [sums_RD.shape[1], 1, 1])
        newest_KBC, oldest_KBC = newest_1KBC.squeeze(0), oldest_1KBC.squeeze(0)
        log_newest_KBC = torch.log(newest_KBC)
        n_KBC = (sums_DKBC[-1:].squeeze(0) - 1.0) / SCALE
        # Mean days between two pieces of the kind; one piece, or all on one day, reads as NEVER.
        span_KBC = oldest_KBC - newest_KBC
        has_gap_KBC = span_KBC > 0.5
        gap_KBC = torch.where(has_gap_KBC, span_KBC / (n_KBC - 1.0).clamp(min=1.0), NEVER).clamp(min=1.0)
        log_gap_KBC = torch.log(gap_KBC)
        return torch.cat(
            [
                torch.log(sums_DKBC).flatten(0, 1),
                log_newest_KBC,
                log_gap_KBC,
                torch.where(has_gap_KBC, log_newest_KBC - log_gap_KBC, 0.0),
                visit_share(n_KBC, n_visits_B1),
                is_in_last_visit(newest_KBC, since_B1),
            ]
        )


def visit_share(n_XBC: Tensor, n_visits_B1: Tensor) -> Tensor:
    """Log share of the customer's visits that a count stands for; never bought reads as a tenth of once."""
    return torch.log((n_XBC + 0.1) / (n_visits_B1 + 1.0))


def is_in_last_visit(newest_XBC: Tensor, since_B1: Tensor) -> Tensor:
    """1 where the newest purchase was on the customer's last day in the shop."""
    return ((newest_XBC - since_B1).abs() < 0.5).to(torch.float32)
