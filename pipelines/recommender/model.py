"""The recommender that ships: retrieval from signals, then a ranker, in one graph.

Legend: B customers in the batch, L history length, T touched slots, N live articles, C candidates, F ranker features,
K siblings, M neighbours, V attributes, D time decays.

Retrieval starts from the popularity of each live article in the customer's segment and lifts what the history
touches: articles bought before, their colour variants, articles bought together with them. The best C go to the ranker,
a linear model with a small residual network over every signal, so that on little data it falls back to the linear one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipelines.recommender.interactions import ATTRIBUTES
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
FEATURE_GROUPS = {
    "repurchase": ("repurchase", "is_repurchase", "rebuy_rate"),
    "variant": ("variant", "is_variant"),
    "copurchase": ("copurchase", "is_copurchase"),
    "affinity": ("affinity",),
    "price": ("price",),
    "segment": ("segment",),
    "freshness": ("age", "product_age", "is_unsold", "last_sale", "trend"),
    "popularity": ("own", "product_", "neighbourhood"),
}
"""Signal → prefixes of its features: what an ablation takes away together."""


class Signals(nn.Module):
    """Candidates of each customer and the ranker's features of each, from one day's tables."""

    def __init__(self, tables: Tables, n_candidates: int) -> None:
        super().__init__()
        self.n_articles = tables.n_articles
        self.n_live = tables.n_live
        self.n_candidates = min(n_candidates, tables.n_live)
        self.n_attribute_values = tables.n_attribute_values
        buffers = {
            "live_N": tables.live_N,
            "position_A1": tables.position_A1,
            "static_NF": tables.static_NF,
            "retrieval_SN": tables.retrieval_SN,
            "siblings_AK": tables.siblings_AK,
            "neighbours_AM": tables.neighbours_AM,
            "neighbour_weights_AM": tables.neighbour_weights_AM,
            "attributes_A1V": tables.attributes_A1V,
            "log_price_A1": tables.log_price_A1,
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.from_numpy(values))
        rebuy = STATIC_FEATURES.index("rebuy_rate")
        self.register_buffer("rebuy_rate_N", self.static_NF[:, rebuy].clone())
        decays = REPURCHASE_DECAYS + VARIANT_DECAYS + COPURCHASE_DECAYS + (PROFILE_DECAY, RECENCY_DECAY)
        self.register_buffer("rates_D", torch.tensor([-1.0 / tau for tau in decays]))

    live_N: Tensor
    position_A1: Tensor
    static_NF: Tensor
    retrieval_SN: Tensor
    siblings_AK: Tensor
    neighbours_AM: Tensor
    neighbour_weights_AM: Tensor
    attributes_A1V: Tensor
    log_price_A1: Tensor
    rebuy_rate_N: Tensor
    rates_D: Tensor

    def _sum_at(self, slots_BT: Tensor, weights_BDT: Tensor) -> Tensor:
        """Add up the weights of each live article; [B, D, N + 1], the last column collects what is dead."""
        shape = (weights_BDT.shape[0], weights_BDT.shape[1], self.n_live + 1)
        zeros = torch.zeros(shape, dtype=weights_BDT.dtype)
        return zeros.scatter_add(2, slots_BT.unsqueeze(1).expand_as(weights_BDT), weights_BDT)

    def _largest_at(self, slots_BT: Tensor, weights_BT: Tensor) -> Tensor:
        """Keep the largest weight of each live article; [B, N + 1]."""
        zeros = torch.zeros((weights_BT.shape[0], self.n_live + 1), dtype=weights_BT.dtype)
        return zeros.scatter_reduce(1, slots_BT, weights_BT, reduce="amax")

    def forward(self, history_BL: Tensor, age_days_BL: Tensor, segment_B: Tensor) -> tuple[Tensor, Tensor]:
        """Retrieve and describe.

        history_BL: article_index, oldest first, n_articles pads on the left; age_days_BL: days since purchase, >= 1.
        Returns candidates_BC (live positions) and features_BCF in the order of RANKER_FEATURES.
        """
        n_rep, n_var, n_cop = len(REPURCHASE_DECAYS), len(VARIANT_DECAYS), len(COPURCHASE_DECAYS)
        B = history_BL.shape[0]
        is_bought_BL = (history_BL < self.n_articles).to(torch.float32)
        age_BL = age_days_BL.clamp(1.0, 1000.0)
        decayed_BDL = torch.exp(age_BL.unsqueeze(1) * self.rates_D.reshape(1, -1, 1)) * is_bought_BL.unsqueeze(1)

        own_BL = self.position_A1[history_BL]
        variants_BT = self.siblings_AK[history_BL].reshape(B, -1)
        together_BT = self.neighbours_AM[history_BL].reshape(B, -1)
        strength_BLM = self.neighbour_weights_AM[history_BL]
        K = self.siblings_AK.shape[1]

        rep_BDL = torch.cat([decayed_BDL[:, :n_rep], is_bought_BL.unsqueeze(1)], dim=1)
        var_BDL = decayed_BDL[:, n_rep : n_rep + n_var]
        cop_BDL = decayed_BDL[:, n_rep + n_var : n_rep + n_var + n_cop]
        var_BDT = var_BDL.unsqueeze(3).expand(-1, -1, -1, K).reshape(B, n_var, -1)
        cop_BDT = (cop_BDL.unsqueeze(3) * strength_BLM.unsqueeze(1)).reshape(B, n_cop, -1)
        recency_BL = decayed_BDL[:, -1]
        recency_BT = recency_BL.unsqueeze(2).expand(-1, -1, K).reshape(B, -1)

        sums_BDN = torch.cat(
            [
                self._sum_at(own_BL, rep_BDL),
                self._sum_at(variants_BT, var_BDT),
                self._sum_at(together_BT, cop_BDT),
                self._largest_at(own_BL, recency_BL).unsqueeze(1),
                self._largest_at(variants_BT, recency_BT).unsqueeze(1),
            ],
            dim=1,
        )
        at_rep, at_var, at_cop = n_rep - 1, n_rep + 1 + n_var - 2, n_rep + 1 + n_var + n_cop - 1
        lift_BN = (
            20.0 * (sums_BDN[:, at_rep] > 0).to(torch.float32)  # whatever was bought before is always a candidate
            + 3.0 * torch.log1p(20.0 * sums_BDN[:, at_var])
            + 3.0 * torch.log1p(200.0 * sums_BDN[:, at_cop])
        )
        retrieval_BN = self.retrieval_SN[segment_B] + lift_BN[:, :-1]
        candidates_BC = torch.topk(retrieval_BN, self.n_candidates, dim=1).indices
        features_BCF = self._features(candidates_BC, sums_BDN, history_BL, age_BL, decayed_BDL, is_bought_BL, segment_B)
        return candidates_BC, features_BCF

    def _features(
        self,
        candidates_BC: Tensor,
        sums_BDN: Tensor,
        history_BL: Tensor,
        age_BL: Tensor,
        decayed_BDL: Tensor,
        is_bought_BL: Tensor,
        segment_B: Tensor,
    ) -> Tensor:
        n_rep, n_var, n_cop = len(REPURCHASE_DECAYS), len(VARIANT_DECAYS), len(COPURCHASE_DECAYS)
        n_sums = sums_BDN.shape[1]
        at_BDC = sums_BDN.gather(2, candidates_BC.unsqueeze(1).expand(-1, n_sums, -1))
        rep_BDC = at_BDC[:, :n_rep]
        count_BC = at_BDC[:, n_rep]
        var_BDC = at_BDC[:, n_rep + 1 : n_rep + 1 + n_var]
        cop_BDC = at_BDC[:, n_rep + 1 + n_var : n_rep + 1 + n_var + n_cop]
        rep_recency_BC, var_recency_BC = at_BDC[:, -2], at_BDC[:, -1]
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
        articles_BC = self.live_N[candidates_BC]
        candidate_values_BT = self.attributes_A1V[articles_BC].reshape(profile_BL.shape[0], -1)
        share_BCV = share_BX.gather(1, candidate_values_BT).reshape(profile_BL.shape[0], -1, V)
        affinity_BCV = torch.log(share_BCV + 0.03) * has_history_B.reshape(-1, 1, 1)

        usual_price_B = (self.log_price_A1[history_BL] * profile_BL).sum(dim=1)
        price_BC = (self.log_price_A1[articles_BC] - usual_price_B.unsqueeze(1)).abs() * has_history_B.unsqueeze(1)
        ones_BC = torch.ones_like(count_BC)
        length_BC = torch.log1p(is_bought_BL.sum(dim=1)).unsqueeze(1) * ones_BC
        youngest_B = torch.where(is_bought_BL > 0, age_BL, torch.full_like(age_BL, 1000.0)).amin(dim=1)
        since_BC = torch.log(youngest_B).unsqueeze(1) * ones_BC
        segment_BC = self.retrieval_SN[segment_B].gather(1, candidates_BC)
        everyone_BC = self.retrieval_SN[0][candidates_BC]
        columns = torch.stack(
            [
                torch.log1p(count_BC),
                rep_age_BC,
                var_age_BC,
                is_rep_BC,
                is_var_BC,
                is_cop_BC,
                is_rep_BC * self.rebuy_rate_N[candidates_BC],
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
                self.static_NF[candidates_BC],
            ],
            dim=2,
        )


class Ranker(nn.Module):
    """Linear model over standardised features plus a small residual network that starts at zero."""

    def __init__(self, mean_F: Tensor, scale_F: Tensor, hidden: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean_F", mean_F)
        self.register_buffer("scale_F", scale_F)
        self.linear = nn.Linear(len(mean_F), 1, bias=False)
        nn.init.zeros_(self.linear.weight)
        self.network: nn.Sequential | None = None
        if hidden:
            last = nn.Linear(hidden, 1, bias=False)
            nn.init.zeros_(last.weight)
            self.network = nn.Sequential(nn.Linear(len(mean_F), hidden), nn.GELU(), nn.Dropout(dropout), last)

    mean_F: Tensor
    scale_F: Tensor

    def forward(self, features_BCF: Tensor) -> Tensor:
        """Score each candidate; [B, C]."""
        # Clipped: a live article far outside of what training saw must not run away.
        standard_BCF = ((features_BCF - self.mean_F) * self.scale_F).clamp(-8.0, 8.0)
        scores_BC1: Tensor = self.linear(standard_BCF)
        if self.network is not None:
            scores_BC1 = scores_BC1 + self.network(standard_BCF)
        return scores_BC1.squeeze(2)


class Recommender(nn.Module):
    """Signals and ranker together: the graph of the bundle."""

    def __init__(self, signals: Signals, ranker: Ranker) -> None:
        super().__init__()
        self.signals = signals
        self.ranker = ranker

    def forward(self, history_BL: Tensor, age_days_BL: Tensor, segment_B: Tensor) -> tuple[Tensor, Tensor]:
        """Rank every candidate; returns article_index [B, C] and score [B, C], best first."""
        candidates_BC, features_BCF = self.signals(history_BL, age_days_BL, segment_B)
        scores_BC = self.ranker(features_BCF)
        score_BC, rank_BC = torch.topk(scores_BC, self.signals.n_candidates, dim=1)
        return self.signals.live_N[candidates_BC.gather(1, rank_BC)], score_BC
