"""The recommender as it serves: what `Recommender` answers, with all that is known at export worked out before.

Legend: B customers in the batch, L history length, C candidates, F features, H hidden units, G signal groups, P extra
pool, N live articles, X columns of a table.

Two fifths of the ranker's features say what an article is, whoever asks: standardised, clipped and multiplied with the
first layer, they are columns of the table of articles. The personal ones are standardised inside the weights, so that
only the clipping is left to do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from pipelines.recommender.model import MAX_STANDARD, Ranker, Recommender
from pipelines.recommender.retrieval import NEWEST, NOT_ALLOWED, WINDOW
from pipelines.recommender.signals import FACTS, PLANES, RANKER_FEATURES, Signals
from pipelines.recommender.tables import STATIC_FEATURES


class ServingGraph(nn.Module):
    """A fitted recommender, ready to be exported for histories of up to max_history purchases."""

    def __init__(self, recommender: Recommender, max_history: int) -> None:
        super().__init__()
        self.signals: Signals = recommender.signals
        self.newest = NEWEST if max_history > WINDOW else slice(None)
        ranker = recommender.ranker
        weights_FH, bias_H, out_H = _as_units(ranker)
        shares_FG = ranker.shares_FG()

        plane_F = [RANKER_FEATURES.index(name) for name in PLANES]
        mean_F, scale_F = ranker.mean_F[plane_F], ranker.scale_F[plane_F]
        limit_F = MAX_STANDARD / scale_F  # infinite for a feature that never varied; its scale, and so its weight, is 0
        personal_FH = scale_F.unsqueeze(1) * weights_FH[plane_F]
        personal_FG = scale_F.unsqueeze(1) * shares_FG[plane_F]

        facts_N1X, static_N1F = torch.split(self.signals.articles_N1X, [len(FACTS), len(STATIC_FEATURES)], dim=1)
        n_personal = len(PLANES)
        static_N1F = ranker.standardise(pad(static_N1F, (n_personal, 0)))[:, n_personal:]
        static_N1H = static_N1F @ weights_FH[n_personal:] + bias_H - mean_F @ personal_FH
        buffers = {
            "low_F11": (mean_F - limit_F).reshape(-1, 1, 1),
            "high_F11": (mean_F + limit_F).reshape(-1, 1, 1),
            "articles_N1X": torch.cat([facts_N1X, static_N1H], dim=1),
            "personal_HF": personal_FH.T,
            "out_1H": out_H.unsqueeze(0),
            "static_N1G": static_N1F @ shares_FG[n_personal:] - mean_F @ personal_FG,
            "personal_FG": personal_FG,
        }
        for name, values in buffers.items():
            self.register_buffer(name, values.detach().contiguous())

    low_F11: Tensor
    high_F11: Tensor
    articles_N1X: Tensor
    personal_HF: Tensor
    out_1H: Tensor
    static_N1G: Tensor
    personal_FG: Tensor

    def forward(
        self, history_BL: Tensor, age_days_BL: Tensor, segment_B: Tensor, extra_pool_P: Tensor, penalty_N1: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rank every candidate: article_index and score [B, C], best first, and what each group added [B, C, G].

        Equal scores come in any order; one below NOT_ALLOWED / 2 is no answer. Only the first of the ranking are looked
        at behind the last topk, so that the exported graph can cut it there.
        """
        candidates_BC, is_allowed_BC, personal_FBC, static_HBC = self.signals.describe(
            history_BL,
            age_days_BL,
            segment_B,
            extra_pool_P,
            penalty_N1,
            self.articles_N1X,
            best_first=False,
            newest=self.newest,
        )
        C = self.signals.n_candidates
        personal_FBC = torch.minimum(torch.maximum(personal_FBC, self.low_F11), self.high_F11)
        hidden_HX = torch.addmm(static_HBC.flatten(1), self.personal_HF, personal_FBC.flatten(1))
        scores_BC = (self.out_1H @ gelu(hidden_HX)).reshape(-1, C)
        score_BC, rank_BC = torch.topk(torch.where(is_allowed_BC, scores_BC, NOT_ALLOWED), C, dim=1)
        ranked_BC = candidates_BC.gather(1, rank_BC)
        ranked_FBC = personal_FBC.gather(2, rank_BC.expand(len(PLANES), -1, -1))
        contribution_BCG = ranked_FBC.permute(1, 2, 0) @ self.personal_FG + self.static_N1G[ranked_BC]
        return self.signals.live_N1[ranked_BC], score_BC, contribution_BCG


def _as_units(ranker: Ranker) -> tuple[Tensor, Tensor, Tensor]:
    """Give the ranker as one hidden layer of GELUs: weights [F, H], bias [H] and the weight of each unit's output [H].

    GELU(x) - GELU(-x) = x, so the linear model is two more units.
    """
    linear_F = ranker.linear.weight[0]
    weights, bias, out = [linear_F, -linear_F], [torch.zeros(2)], [torch.tensor([1.0, -1.0])]
    if ranker.network is not None:
        hidden, _, _, last = ranker.network
        assert isinstance(hidden, nn.Linear)
        assert isinstance(last, nn.Linear)
        weights, bias, out = [*hidden.weight, *weights], [hidden.bias, *bias], [last.weight[0], *out]
    return torch.stack(weights, dim=1), torch.cat(bias), torch.cat(out)
