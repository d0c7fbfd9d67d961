"""The recommender that ships: signals, then a ranker, in one graph.

Legend: B customers in the batch, L history length, C candidates, F ranker features, G signal groups, P extra pool,
N live articles.

The ranker is a linear model with a small residual network over every signal, so that on little data it falls back to
the linear one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.recommender.signals import NOT_ALLOWED, RANKER_FEATURES, Signals

FEATURE_GROUPS = {
    "repurchase": ("repurchase", "is_repurchase", "rebuy_rate"),
    "variant": ("variant", "is_variant"),
    "copurchase": ("copurchase", "is_copurchase"),
    "taste": ("taste",),
    "price": ("price",),
    "sequence": ("sequence",),
    "segment": ("segment",),
    "freshness": ("age", "product_age", "is_unsold", "last_sale", "trend"),
    "popularity": ("own", "product_", "neighbourhood"),
}
"""Signal → prefixes of its features: what an ablation takes away together."""


def group_of(feature: str) -> str:
    """Name the signal group of a ranker feature; the longest prefix that fits decides."""
    fits = [
        (len(prefix), group)
        for group, prefixes in FEATURE_GROUPS.items()
        for prefix in prefixes
        if feature.startswith(prefix)
    ]
    return max(fits)[1] if fits else "context"


MAX_STANDARD = 8.0
"""Deviations from the mean beyond which a feature is clipped: a live article far outside of what training saw must not
run away."""
SIGNAL_GROUPS = tuple(dict.fromkeys(group_of(feature) for feature in RANKER_FEATURES))


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

    def standardise(self, features_BCF: Tensor) -> Tensor:
        """Bring each feature to mean 0 and deviation 1 in training, at most MAX_STANDARD from it."""
        return (features_BCF - self.mean_F).mul_(self.scale_F).clamp_(-MAX_STANDARD, MAX_STANDARD)

    def score(self, standard_BCF: Tensor) -> Tensor:
        """Score candidates from standardised features; [B, C]."""
        scores_BC1: Tensor = self.linear(standard_BCF)
        if self.network is not None:
            scores_BC1 = scores_BC1 + self.network(standard_BCF)
        return scores_BC1.squeeze(2)

    def forward(self, features_BCF: Tensor) -> Tensor:
        """Score each candidate; [B, C]."""
        return self.score(self.standardise(features_BCF))

    def shares_FG(self) -> Tensor:
        """Weight of each standardised feature in its signal group: standard_BCF @ shares_FG adds to the linear score.

        What the residual network adds belongs to no group.
        """
        weights_F = self.linear.weight.detach()[0]
        shares_FG = torch.zeros(len(RANKER_FEATURES), len(SIGNAL_GROUPS))
        for f, feature in enumerate(RANKER_FEATURES):
            shares_FG[f, SIGNAL_GROUPS.index(group_of(feature))] = weights_F[f]
        return shares_FG


class Recommender(nn.Module):
    """Signals and ranker together: the graph of the bundle."""

    def __init__(self, signals: Signals, ranker: Ranker) -> None:
        super().__init__()
        self.signals = signals
        self.ranker = ranker

    def forward(
        self, history_BL: Tensor, age_days_BL: Tensor, segment_B: Tensor, extra_pool_P: Tensor, penalty_N1: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rank every candidate: article_index and score [B, C], best first; a score below NOT_ALLOWED / 2 is no answer.

        Also their places among the candidates [B, C], and the standardised features of the candidates [B, C, F].
        """
        candidates_BC, is_allowed_BC, features_BCF = self.signals(
            history_BL, age_days_BL, segment_B, extra_pool_P, penalty_N1
        )
        standard_BCF = self.ranker.standardise(features_BCF)
        scores_BC = self.ranker.score(standard_BCF) + (~is_allowed_BC).to(torch.float32) * NOT_ALLOWED
        score_BC, rank_BC = torch.topk(scores_BC, self.signals.n_candidates, dim=1)
        return self.signals.live_N1[candidates_BC.gather(1, rank_BC)], score_BC, rank_BC, standard_BCF
