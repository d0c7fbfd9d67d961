"""Candidates of each customer, and what the ranker is told of each: one day's tables as a part of the graph.

Legend: B customers in the batch, L history length, S slots, N live articles, C candidates, F ranker features, P pool of
a segment, K siblings, M neighbours, V attributes, D time decays.

Retrieval starts from the popularity of live articles in the customer's segment and lifts what the history touches:
articles bought before, their colour variants, articles bought together with them. Only touched articles and the best C
of the segment can win, so only these take part: the work does not grow with the catalogue.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.recommender.interactions import ATTRIBUTES, Float32, Int64
from pipelines.recommender.tables import STATIC_FEATURES, Tables

REPURCHASE_DECAYS = (5.0, 20.0, 80.0, 320.0)
VARIANT_DECAYS = (5.0, 20.0, 80.0, 320.0)
COPURCHASE_DECAYS = (5.0, 20.0, 80.0)
PROFILE_DECAY = 80.0
RECENCY_DECAY = 320.0
"""The largest exp(-age / 320) of an article's purchases tells the age of the last one, in a form that scatters."""

RANKER_FEATURES = (
    *(f"repurchase_{tau:g}d" for tau in REPURCHASE_DECAYS),
    *(f"variant_{tau:g}d" for tau in VARIANT_DECAYS),
    *(f"copurchase_{tau:g}d" for tau in COPURCHASE_DECAYS),
    "repurchase_count",
    "repurchase_age",
    "variant_age",
    "is_repurchase",
    "is_variant",
    "is_copurchase",
    "repurchase_x_rebuy_rate",
    *(f"affinity_{name}" for name in ATTRIBUTES),
    "price_distance",
    "history_length",
    "days_since_purchase",
    "is_repurchase_x_days_since_purchase",
    "has_history",
    "segment_popularity",
    "segment_lift",
    *STATIC_FEATURES,
)
NOT_ALLOWED = -1e9
"""Penalty of an article that may not be answered; also the retrieval score of a slot that repeats an article."""


class Signals(nn.Module):
    """Candidates of each customer and the ranker's features of each, from one day's tables."""

    def __init__(self, tables: Tables, n_candidates: int) -> None:
        super().__init__()
        self.n_articles = tables.n_articles
        self.n_live = tables.n_live
        self.n_candidates = min(n_candidates, tables.n_live)
        self.n_attribute_values = tables.n_attribute_values
        # One row more for the dead slot N, which padding and dead articles point at; it is never allowed.
        retrieval_SN1 = torch.nn.functional.pad(torch.from_numpy(tables.retrieval_SN), (0, 1))
        best = torch.from_numpy(best_of_segments(tables.retrieval_SN, self.n_candidates))
        buffers = {
            "live_N1": torch.nn.functional.pad(torch.from_numpy(tables.live_N), (0, 1)),
            "position_A1": torch.from_numpy(tables.position_A1),
            "static_N1F": torch.nn.functional.pad(torch.from_numpy(tables.static_NF), (0, 0, 0, 1)),
            "retrieval_X": retrieval_SN1.flatten(),
            "pools_SP": best,
            "siblings_AK": torch.from_numpy(tables.siblings_AK),
            "neighbours_AM": torch.from_numpy(tables.neighbours_AM),
            "neighbour_weights_AM": torch.from_numpy(tables.neighbour_weights_AM),
            "attributes_A1V": torch.from_numpy(tables.attributes_A1V),
            "log_price_A1": torch.from_numpy(tables.log_price_A1),
        }
        for name, values in buffers.items():
            self.register_buffer(name, values)
        decays = REPURCHASE_DECAYS + VARIANT_DECAYS + COPURCHASE_DECAYS + (PROFILE_DECAY, RECENCY_DECAY)
        self.register_buffer("rates_D", torch.tensor([-1.0 / tau for tau in decays]))

    live_N1: Tensor
    position_A1: Tensor
    static_N1F: Tensor
    retrieval_X: Tensor
    pools_SP: Tensor
    siblings_AK: Tensor
    neighbours_AM: Tensor
    neighbour_weights_AM: Tensor
    attributes_A1V: Tensor
    log_price_A1: Tensor
    rates_D: Tensor

    def retrieval_SN1(self) -> Tensor:
        """Log popularity of each live article in each segment; the last column is the dead slot's."""
        return self.retrieval_X.reshape(-1, self.n_live + 1)

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
        Returns candidates_BC (live positions), is_allowed_BC and features_BCF in the order of RANKER_FEATURES.
        """
        n_rep, n_var, n_cop = len(REPURCHASE_DECAYS), len(VARIANT_DECAYS), len(COPURCHASE_DECAYS)
        B, K = history_BL.shape[0], self.siblings_AK.shape[1]
        is_bought_BL = (history_BL < self.n_articles).to(torch.float32)
        age_BL = age_days_BL.clamp(1.0, 1000.0)
        decayed_BDL = torch.exp(age_BL.unsqueeze(1) * self.rates_D.reshape(1, -1, 1)) * is_bought_BL.unsqueeze(1)

        own_BL = self.position_A1[history_BL]
        variants_BT = self.siblings_AK[history_BL].reshape(B, -1)
        together_BT = self.neighbours_AM[history_BL].reshape(B, -1)
        extra_BP = extra_pool_P.unsqueeze(0).expand(B, -1)
        slots_BS = torch.cat([own_BL, variants_BT, together_BT, self.pools_SP[segment_B], extra_BP], dim=1)
        number_BS = torch.arange(slots_BS.shape[1]).unsqueeze(0).expand_as(slots_BS)
        # The first slot of an article stands for it: sums go there, and the others never win.
        firsts = torch.full((B, self.n_live + 1), 2**30, dtype=torch.int64)
        first_BN1 = firsts.scatter_reduce(1, slots_BS, number_BS, reduce="amin")
        first_BS = first_BN1.gather(1, slots_BS)
        n_own, n_variants = own_BL.shape[1], variants_BT.shape[1]
        own_BL, variants_BT = first_BS[:, :n_own], first_BS[:, n_own : n_own + n_variants]
        together_BT = first_BS[:, n_own + n_variants : n_own + n_variants + together_BT.shape[1]]

        rep_BDL = torch.cat([decayed_BDL[:, :n_rep], is_bought_BL.unsqueeze(1)], dim=1)
        var_BDL = decayed_BDL[:, n_rep : n_rep + n_var]
        cop_BDL = decayed_BDL[:, n_rep + n_var : n_rep + n_var + n_cop]
        var_BDT = var_BDL.unsqueeze(3).expand(-1, -1, -1, K).reshape(B, n_var, -1)
        strength_BLM = self.neighbour_weights_AM[history_BL]
        cop_BDT = (cop_BDL.unsqueeze(3) * strength_BLM.unsqueeze(1)).reshape(B, n_cop, -1)
        recency_BL = decayed_BDL[:, -1]
        recency_BT = recency_BL.unsqueeze(2).expand(-1, -1, K).reshape(B, -1)
        sums_BDS = torch.cat(
            [
                _sum_at(own_BL, rep_BDL, slots_BS),
                _sum_at(variants_BT, var_BDT, slots_BS),
                _sum_at(together_BT, cop_BDT, slots_BS),
                _largest_at(own_BL, recency_BL, slots_BS).unsqueeze(1),
                _largest_at(variants_BT, recency_BT, slots_BS).unsqueeze(1),
            ],
            dim=1,
        )
        at_rep, at_var, at_cop = n_rep - 1, n_rep + 1 + n_var - 2, n_rep + 1 + n_var + n_cop - 1
        lift_BS = (
            20.0 * (sums_BDS[:, at_rep] > 0).to(torch.float32)  # whatever was bought before is always a candidate
            + 3.0 * torch.log1p(20.0 * sums_BDS[:, at_var])
            + 3.0 * torch.log1p(200.0 * sums_BDS[:, at_cop])
        )
        popularity_BS = self.retrieval_X[slots_BS + (segment_B * (self.n_live + 1)).unsqueeze(1)]
        repeated_BS = (first_BS != number_BS).to(torch.float32) * NOT_ALLOWED
        retrieval_BS = popularity_BS + lift_BS + penalty_N1[slots_BS] + repeated_BS
        retrieved_BC, chosen_BC = torch.topk(retrieval_BS, self.n_candidates, dim=1)
        candidates_BC = slots_BS.gather(1, chosen_BC)
        at_BDC = sums_BDS.gather(2, chosen_BC.unsqueeze(1).expand(-1, sums_BDS.shape[1], -1))
        features_BCF = self._features(candidates_BC, at_BDC, history_BL, age_BL, decayed_BDL, is_bought_BL, segment_B)
        return candidates_BC, retrieved_BC > 0.5 * NOT_ALLOWED, features_BCF

    def _features(
        self,
        candidates_BC: Tensor,
        at_BDC: Tensor,
        history_BL: Tensor,
        age_BL: Tensor,
        decayed_BDL: Tensor,
        is_bought_BL: Tensor,
        segment_B: Tensor,
    ) -> Tensor:
        n_rep, n_var, n_cop = len(REPURCHASE_DECAYS), len(VARIANT_DECAYS), len(COPURCHASE_DECAYS)
        rep_BDC = at_BDC[:, :n_rep]
        count_BC = at_BDC[:, n_rep]
        var_BDC = at_BDC[:, n_rep + 1 : n_rep + 1 + n_var]
        cop_BDC = at_BDC[:, n_rep + 1 + n_var : n_rep + 1 + n_var + n_cop]
        rep_recency_BC, var_recency_BC = at_BDC[:, -2], at_BDC[:, -1]
        static_BCF = self.static_N1F[candidates_BC]
        is_rep_BC = (count_BC > 0).to(torch.float32)
        is_var_BC = (var_recency_BC > 0).to(torch.float32)
        is_cop_BC = (cop_BDC[:, -1] > 0).to(torch.float32)
        # Never bought reads as bought 1,100 days ago: one continuous scale.
        rep_age_BC = torch.log((-RECENCY_DECAY * torch.log(rep_recency_BC.clamp(min=1e-12))).clamp(1.0, 1100.0))
        var_age_BC = torch.log((-RECENCY_DECAY * torch.log(var_recency_BC.clamp(min=1e-12))).clamp(1.0, 1100.0))
        rep_age_BC = torch.where(is_rep_BC > 0, rep_age_BC, torch.full_like(rep_age_BC, math.log(1100.0)))
        var_age_BC = torch.where(is_var_BC > 0, var_age_BC, torch.full_like(var_age_BC, math.log(1100.0)))

        has_history_B = (is_bought_BL.sum(dim=1) > 0).to(torch.float32)
        profile_BL = decayed_BDL[:, -2] / decayed_BDL[:, -2].sum(dim=1, keepdim=True).clamp(min=1e-12)
        values_BLV = self.attributes_A1V[history_BL]
        V = values_BLV.shape[2]
        weights_BT = profile_BL.unsqueeze(2).expand(-1, -1, V).reshape(profile_BL.shape[0], -1)
        share_BX = torch.zeros((profile_BL.shape[0], self.n_attribute_values)).scatter_add(
            1, values_BLV.reshape(profile_BL.shape[0], -1), weights_BT
        )
        articles_BC = self.live_N1[candidates_BC]
        candidate_values_BT = self.attributes_A1V[articles_BC].reshape(profile_BL.shape[0], -1)
        share_BCV = share_BX.gather(1, candidate_values_BT).reshape(profile_BL.shape[0], -1, V)
        affinity_BCV = torch.log(share_BCV + 0.03) * has_history_B.reshape(-1, 1, 1)

        usual_price_B = (self.log_price_A1[history_BL] * profile_BL).sum(dim=1)
        price_BC = (self.log_price_A1[articles_BC] - usual_price_B.unsqueeze(1)).abs() * has_history_B.unsqueeze(1)
        ones_BC = torch.ones_like(count_BC)
        length_BC = torch.log1p(is_bought_BL.sum(dim=1)).unsqueeze(1) * ones_BC
        youngest_B = torch.where(is_bought_BL > 0, age_BL, torch.full_like(age_BL, 1000.0)).amin(dim=1)
        since_BC = torch.log(youngest_B).unsqueeze(1) * ones_BC
        segment_BC = self.retrieval_X[candidates_BC + (segment_B * (self.n_live + 1)).unsqueeze(1)]
        everyone_BC = self.retrieval_X[candidates_BC]
        columns = torch.stack(
            [
                torch.log1p(count_BC),
                rep_age_BC,
                var_age_BC,
                is_rep_BC,
                is_var_BC,
                is_cop_BC,
                is_rep_BC * static_BCF[:, :, STATIC_FEATURES.index("rebuy_rate")],
            ],
            dim=2,
        )
        context = torch.stack(
            [
                price_BC,
                length_BC,
                since_BC,
                is_rep_BC * since_BC,
                has_history_B.unsqueeze(1) * ones_BC,
                segment_BC,
                segment_BC - everyone_BC,
            ],
            dim=2,
        )
        return torch.cat(
            [
                torch.log1p(20.0 * rep_BDC).transpose(1, 2),
                torch.log1p(20.0 * var_BDC).transpose(1, 2),
                torch.log1p(200.0 * cop_BDC).transpose(1, 2),
                columns,
                affinity_BCV,
                context,
                static_BCF,
            ],
            dim=2,
        )


def best_of_segments(retrieval_SN: Float32, k: int) -> Int64:
    """Live positions of each segment's k most popular articles, best first, ties by position; [S, k]."""
    position_N = np.arange(retrieval_SN.shape[1])
    return np.stack([np.lexsort((position_N, -row_N))[:k] for row_N in retrieval_SN]).astype(np.int64)


def _sum_at(slot_BT: Tensor, weights_BDT: Tensor, slots_BS: Tensor) -> Tensor:
    """Add up the weights that fall on each slot; [B, D, S]."""
    zeros = torch.zeros((weights_BDT.shape[0], weights_BDT.shape[1], slots_BS.shape[1]))
    return zeros.scatter_add(2, slot_BT.unsqueeze(1).expand_as(weights_BDT), weights_BDT)


def _largest_at(slot_BT: Tensor, weights_BT: Tensor, slots_BS: Tensor) -> Tensor:
    """Keep the largest weight that falls on each slot; [B, S]."""
    zeros = torch.zeros(slots_BS.shape)
    return zeros.scatter_reduce(1, slot_BT, weights_BT, reduce="amax")
