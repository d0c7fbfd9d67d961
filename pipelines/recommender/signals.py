"""What the ranker is told of each candidate: one day's tables as a part of the graph.

Legend: B customers in the batch, L history length, N live articles, C candidates, F features, P extra pool,
V attributes, X values of attributes or columns of a table, D width of the sequence encoder.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, pad

from pipelines.recommender.interactions import ATTRIBUTES
from pipelines.recommender.kinds import KIND_PLANES, Kinds, is_in_last_visit, visit_share
from pipelines.recommender.retrieval import (
    DECAYS,
    FAMILIES,
    NEVER,
    NEWEST,
    NOT_ALLOWED,
    OLDEST,
    SCALES,
    SUMS,
    WINDOW,
    History,
    Retrieval,
    register,
)
from pipelines.recommender.tables import STATIC_FEATURES, Tables

__all__ = ["NOT_ALLOWED", "RANKER_FEATURES", "WINDOW", "Signals"]

TASTE_DECAY = DECAYS.index(320.0)
TASTE_PRIOR = 3.0
"""Purchases of everyone that a customer's own are mixed with before the two are compared."""

PERSONAL_FEATURES = (
    *(f"{family}_{tau:g}d" for tau in DECAYS for family in FAMILIES),
    *(f"{family}_count" for family in FAMILIES),
    *(f"{family}_age" for family in FAMILIES),
    *(f"is_{family}" for family in FAMILIES),
    "repurchase_share",
    "repurchase_gap",
    "repurchase_due",
    "repurchase_visit_share",
    "repurchase_in_last_visit",
    "repurchase_x_rebuy_rate",
    "repurchase_x_days_since_purchase",
    *(f"taste_{name}" for name in ATTRIBUTES),
    *KIND_PLANES,
    "price_distance",
    "sequence_score",
    "segment_popularity",
    "segment_lift",
    "history_length",
    "days_since_purchase",
    "has_history",
)
RANKER_FEATURES = (*PERSONAL_FEATURES, *STATIC_FEATURES)
PLANES = (*SUMS, *PERSONAL_FEATURES[len(SUMS) :])
"""PERSONAL_FEATURES in the order in which they come about."""
FACTS = ("rebuy_rate", "log_price", "everyone", *ATTRIBUTES)
"""Of an article, to set the customer against; `everyone` is its log popularity with all customers."""


class Described(NamedTuple):
    """Candidates of each customer, and what is known of them."""

    candidates_BC: Tensor
    """Live positions."""
    is_allowed_BC: Tensor
    personal_FBC: Tensor
    """One plane for each of PLANES."""
    other_XBC: Tensor
    """One plane for each column of the table of articles behind FACTS."""


class Signals(nn.Module):
    """Candidates of each customer and the ranker's features of each, from one day's tables."""

    def __init__(self, tables: Tables, n_candidates: int) -> None:
        super().__init__()
        self.retrieval = Retrieval(tables, n_candidates)
        self.n_articles = tables.n_articles
        self.n_live = tables.n_live
        self.n_candidates = self.retrieval.n_candidates
        self.kinds = Kinds(tables)
        self.sequence = tables.sequence
        rebuy_rate_N = tables.static_NF[:, STATIC_FEATURES.index("rebuy_rate")]
        facts = (rebuy_rate_N, tables.log_price_A1[tables.live_N], tables.retrieval_SN[0])
        articles_NX = np.column_stack([*facts, tables.attributes_A1V[tables.live_N], tables.static_NF])
        buffers = {
            "live_N1": np.append(tables.live_N, 0),
            # All that is looked up of a candidate is one row, as it is the lookup that costs.
            "articles_N1X": np.pad(articles_NX, ((0, 1), (0, 0))),
            "attributes_A1V": tables.attributes_A1V.astype(np.int32),
            "ones_1V": np.ones((1, len(ATTRIBUTES))),
            "prior_1X": TASTE_PRIOR * tables.attribute_shares_X[None, :],
            "log_price_A1": tables.log_price_A1,
            "plane_F": np.array([PLANES.index(name) for name in PERSONAL_FEATURES]),
        }
        register(self, buffers)

    live_N1: Tensor
    articles_N1X: Tensor
    attributes_A1V: Tensor
    ones_1V: Tensor
    prior_1X: Tensor
    log_price_A1: Tensor
    plane_F: Tensor

    def nothing_extra(self) -> tuple[Tensor, Tensor]:
        """Make the inputs extra_pool_P and penalty_N1 of a request without filters."""
        penalty_N1 = torch.zeros(self.n_live + 1)
        penalty_N1[-1] = NOT_ALLOWED
        return torch.tensor([self.n_live]), penalty_N1

    def forward(
        self, history_BL: Tensor, age_days_BL: Tensor, segment_B: Tensor, extra_pool_P: Tensor, penalty_N1: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Retrieve and describe.

        history_BL: article_index, oldest first, n_articles pads on the left; age_days_BL: days since purchase, >= 1;
        extra_pool_P: live positions that everyone of the batch is ranked on too; penalty_N1: 0 or NOT_ALLOWED.
        Returns candidates_BC (live positions, best of retrieval first), is_allowed_BC and features_BCF in the order of
        RANKER_FEATURES.
        """
        described = self.describe(
            history_BL, age_days_BL, segment_B, extra_pool_P, penalty_N1, self.articles_N1X, best_first=True
        )
        features_FBC = torch.cat([described.personal_FBC[self.plane_F], described.other_XBC])
        return described.candidates_BC, described.is_allowed_BC, features_FBC.permute(1, 2, 0)

    def describe(
        self,
        history_BL: Tensor,
        age_days_BL: Tensor,
        segment_B: Tensor,
        extra_pool_P: Tensor,
        penalty_N1: Tensor,
        articles_N1X: Tensor,
        *,
        best_first: bool,
        newest: slice = NEWEST,
    ) -> Described:
        """Retrieve candidates, and say of each what is personal.

        articles_N1X: FACTS of each live article, and whatever else is wanted of the candidates; best_first and newest
        as Retrieval has them, the rest as forward.
        """
        history = self.retrieval.read(history_BL, age_days_BL)
        mass_BL = history.decayed_BLD[:, :, TASTE_DECAY] * history.is_bought_BL
        total_B1 = mass_BL.sum(dim=1, keepdim=True)
        taste_BX = self._taste_BX(history_BL, mass_BL, total_B1)
        found = self.retrieval(
            history, taste_BX, segment_B, extra_pool_P, penalty_N1, best_first=best_first, newest=newest
        )
        article_XBC = embedding(found.candidates_BC, articles_N1X).permute(2, 0, 1)
        sizes = [1, 1, 1, len(ATTRIBUTES), articles_N1X.shape[1] - len(FACTS)]
        rebuy_1BC, price_1BC, everyone_1BC, values_VBC, other_XBC = torch.split(article_XBC, sizes)

        n_bought_B1 = history.is_bought_BL.sum(dim=1, keepdim=True)
        has_history_B1 = history.is_bought_BL[:, -1:]  # padded on the left: without a newest purchase there is none
        since_B1 = torch.where(has_history_B1 > 0, history.age_BL[:, -1:], OLDEST)
        log_since_B1 = torch.log(since_B1)
        customer_3B = torch.cat([torch.log1p(n_bought_B1), log_since_B1, has_history_B1], dim=1).permute(1, 0)
        n_visits_B1 = self._n_visits_B1(history)

        age_FBC = torch.log(found.newest_FBC)
        is_touched_FBC = (found.newest_FBC < NEVER).to(torch.float32)
        # Mean days between two purchases of the article; bought once, or all in one basket, reads as NEVER.
        span_1BC = found.oldest_1BC - found.newest_FBC[:1]
        has_gap_1BC = span_1BC > 0.5
        gap_1BC = torch.where(has_gap_1BC, span_1BC / (found.n_bought_1BC - 1.0).clamp(min=1.0), NEVER)
        gap_1BC = torch.log(gap_1BC.clamp(min=1.0))

        usual_B1 = (self.log_price_A1[history_BL] * mass_BL).sum(dim=1, keepdim=True) / total_B1.clamp(min=1e-12)
        personal_FBC = torch.cat(
            [
                torch.log(found.sums_XBC),
                age_FBC,
                is_touched_FBC,
                torch.log1p(SCALES[0] * found.n_bought_1BC / n_bought_B1.clamp(min=1.0)),
                gap_1BC,
                torch.where(has_gap_1BC, age_FBC[:1] - gap_1BC, 0.0),
                visit_share(found.n_bought_1BC, n_visits_B1),
                is_in_last_visit(found.newest_FBC[:1], since_B1),
                is_touched_FBC[:1] * rebuy_1BC,
                is_touched_FBC[:1] * log_since_B1,
                self._taste_VBC(taste_BX, values_VBC),
                self.kinds(history, values_VBC, n_visits_B1, since_B1),
                (price_1BC - usual_B1).abs() * has_history_B1,
                self._sequence_1BC(history, found.candidates_BC) if self.sequence is not None else 0.0 * price_1BC,
                found.popularity_1BC,
                found.popularity_1BC - everyone_1BC,
                customer_3B.unsqueeze(2).expand(-1, -1, self.n_candidates),
            ]
        )
        return Described(found.candidates_BC, found.is_allowed_BC, personal_FBC, other_XBC)

    @staticmethod
    def _n_visits_B1(history: History) -> Tensor:
        """Count the days with a purchase."""
        is_same_BL = (history.age_BL[:, 1:] == history.age_BL[:, :-1]).to(torch.float32)
        is_first_BL = history.is_bought_BL - pad(is_same_BL * history.is_bought_BL[:, :-1], (1, 0))
        return is_first_BL.sum(dim=1, keepdim=True)

    def _taste_BX(self, history_BL: Tensor, mass_BL: Tensor, total_B1: Tensor) -> Tensor:
        """Log of how much oftener the customer buys each value of an attribute than everyone does."""
        values_BX = embedding(history_BL, self.attributes_A1V).flatten(1).to(torch.int64)
        mass_BLV = mass_BL.unsqueeze(2) * self.ones_1V
        prior_BX = self.prior_1X.expand(history_BL.shape[0], -1)
        mass_BX = prior_BX.scatter_add(1, values_BX, mass_BLV.flatten(1))
        return torch.log(mass_BX / (self.prior_1X * (1.0 + total_B1 / TASTE_PRIOR)))

    @staticmethod
    def _taste_VBC(taste_BX: Tensor, values_VBC: Tensor) -> Tensor:
        """Taste for a candidate's value of each attribute."""
        start_B1 = torch.arange(taste_BX.shape[0]).unsqueeze(1) * taste_BX.shape[1]
        at_VBC = values_VBC.to(torch.int64) + start_B1
        return taste_BX.flatten().gather(0, at_VBC.flatten()).reshape(at_VBC.shape)

    def _sequence_1BC(self, history: History, candidates_BC: Tensor) -> Tensor:
        assert self.sequence is not None
        read = slice(-self.sequence.encoder.shape.max_history, None)
        customer_BD = self.sequence(history.articles_BL[:, read], history.age_BL[:, read])
        vectors_BCD = embedding(self.live_N1[candidates_BC], self.sequence.vectors_A1D)
        scores_BC1: Tensor = vectors_BCD @ customer_BD.unsqueeze(2)
        return scores_BC1.permute(2, 0, 1)
