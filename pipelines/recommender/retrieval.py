"""Candidates of each customer, and how the history touches each: one day's tables as a part of the graph.

Legend: B customers in the batch, L history length, W window, J articles that one purchase touches, T slots that the
history touches or the request brings, O slots of open shelves, X both, S all slots, R rows of sums, N live articles,
C candidates, P extra pool, K kinds of shelves, V values of all attributes, F families, D time decays and the count.

Retrieval starts from the popularity of live articles in the customer's segment and lifts what the history touches:
articles bought before, their colour variants, articles bought together with them. A shelf holds the best sellers of one
section or department; those that the customer is most likely to buy from are opened, and every article is lifted by how
much oftener than others the customer buys from its shelves. Only touched articles, open shelves and the best C of the
segment can win, so only these take part: the work does not grow with the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, pad

from pipelines.recommender.interactions import ATTRIBUTES, Float32, Int64
from pipelines.recommender.tables import Tables

DECAYS = (5.0, 20.0, 80.0, 320.0)
"""Days; a purchase of `age` days weighs exp(-age / tau)."""
OLDEST, NEVER = 1000.0, 1100.0
"""Days; ages end at the first, and what was never touched reads as touched so long ago: one continuous scale."""
FAMILIES = ("repurchase", "variant", "copurchase")
"""How the history touches an article: bought itself, in another colour, or together with one that was."""
SCALES = (20.0, 20.0, 200.0)
"""Of each family's sums, which are told as 1 + scale * sum."""
SUMS = tuple(f"{family}_{over}" for family in FAMILIES for over in (*(f"{tau:g}d" for tau in DECAYS), "count"))
WINDOW = 64
"""Newest purchases whose variants and neighbours are looked at; the rest of a long history speaks of repurchases."""
NEWEST = slice(-WINDOW, None)
ASKED = ("repurchase_count", "variant_80d", "copurchase_80d")
BOUGHT_LIFT, LIFT = 20.0, 3.0
"""What retrieval adds: a fixed bonus for an article that was bought, and for each of ASKED by its log."""
SHELVES = ("section", "department")
"""Attributes whose values are shelves."""
N_OPENED, SHELF = 4, 32
"""Shelves opened of each kind, and best sellers on each."""
NOT_ALLOWED = -1e9
"""Penalty of an article that may not be answered; also the retrieval score of a slot that repeats an article."""


class History(NamedTuple):
    """What customers bought, oldest first; padded on the left."""

    articles_BL: Tensor
    age_BL: Tensor
    decayed_BLD: Tensor
    is_bought_BL: Tensor
    """0 for padding."""


class Retrieved(NamedTuple):
    """Candidates, and what retrieval found of each."""

    candidates_BC: Tensor
    """Live positions."""
    is_allowed_BC: Tensor
    popularity_1BC: Tensor
    """Log popularity in the customer's segment."""
    sums_XBC: Tensor
    """One plane for each of SUMS."""
    n_bought_1BC: Tensor
    """Days on which the article was bought."""
    newest_FBC: Tensor
    """Days since each family's newest purchase; NEVER without one."""
    oldest_1BC: Tensor
    """Days since the first purchase of the article itself; 0 without one."""


class Retrieval(nn.Module):
    """From histories to candidates."""

    def __init__(self, tables: Tables, n_candidates: int) -> None:
        super().__init__()
        self.n_articles = tables.n_articles
        self.n_live = tables.n_live
        self.n_candidates = min(n_candidates, tables.n_live)
        n_siblings, n_neighbours = tables.siblings_AK.shape[1], tables.neighbours_AM.shape[1]
        family_J = np.array([1] * n_siblings + [2] * n_neighbours)
        touched_AJ = np.concatenate([tables.siblings_AK, tables.neighbours_AM], axis=1)
        strengths_AJ = np.concatenate([np.ones(tables.siblings_AK.shape), tables.neighbour_weights_AM], axis=1)
        best_SC = best_of_segments(tables.retrieval_SN, self.n_candidates)
        columns = [ATTRIBUTES.index(kind) for kind in SHELVES]
        values_AK = tables.attributes_A1V[:-1, columns]
        self.shelf_ranges = [
            (int(low), int(high) + 1) for low, high in zip(values_AK.min(0), values_AK.max(0), strict=True)
        ]
        values_NK = values_AK[tables.live_N]
        shelves = [
            best_of_values(values_N - first, tables.retrieval_SN[0], end - first, SHELF)
            for values_N, (first, end) in zip(values_NK.T, self.shelf_ranges, strict=True)
        ]
        rates_D = np.array([-1.0 / tau for tau in DECAYS] + [0.0])
        n_decays, n_touched = len(rates_D), len(family_J)
        scale_of_asked = np.array([SCALES[0], 1.0, 1.0])[:, None]  # the count as it is, the others scaled
        buffers = {
            "position_A1": tables.position_A1.astype(np.int32),
            # One column more for the dead slot N, which padding and dead articles point at; it is never allowed.
            "popularity_X": np.pad(tables.retrieval_SN, ((0, 0), (0, 1))).ravel(),
            "pools_SC": best_SC,
            "pool_popularity_SC": np.take_along_axis(tables.retrieval_SN, best_SC, axis=1),
            "shelves_XO": np.concatenate(shelves),
            # One kind behind the other: what is looked up one by one costs a third of rows so short.
            "shelf_Y": np.pad(values_NK, ((0, 1), (0, 0)), mode="edge").T.astype(np.int32).ravel(),
            # Of equal shelves the first is opened, here and in the served graph.
            "log_shares_V": np.log(tables.attribute_shares_X) - 1e-6 * np.arange(len(tables.attribute_shares_X)),
            # Small types, as these two are most of the file; they are widened behind the lookup.
            "touched_AJ": touched_AJ.astype(np.int32),
            "strengths_AJ": strengths_AJ.astype(np.float16),
            "family_J": family_J,
            "rates_D": rates_D,
            # D decays for each of J articles, and J strengths for each of D decays: as products, since a broadcast of
            # rows so short costs a call for each.
            "tile_DX": np.tile(np.eye(n_decays), n_touched),
            "repeat_JX": np.repeat(np.diag(np.take(SCALES, family_J)), n_decays, axis=1),
            "ones_1J": np.ones((1, n_touched)),
            "asked_3X": np.eye(len(SUMS))[[SUMS.index(name) for name in ASKED]] / scale_of_asked,
            "asked_31": 1 - 1 / scale_of_asked,
        }
        register(self, buffers)

    position_A1: Tensor
    popularity_X: Tensor
    pools_SC: Tensor
    pool_popularity_SC: Tensor
    shelves_XO: Tensor
    shelf_Y: Tensor
    log_shares_V: Tensor
    touched_AJ: Tensor
    strengths_AJ: Tensor
    family_J: Tensor
    rates_D: Tensor
    tile_DX: Tensor
    repeat_JX: Tensor
    ones_1J: Tensor
    asked_3X: Tensor
    asked_31: Tensor

    def popularity_SN(self) -> Tensor:
        """Log popularity of each live article in each segment."""
        return self.popularity_X.reshape(-1, self.n_live + 1)[:, :-1]

    def read(self, history_BL: Tensor, age_days_BL: Tensor) -> History:
        """Weigh purchases by their age."""
        age_BL = age_days_BL.clamp(1.0, OLDEST)
        decayed_BLD = torch.exp(age_BL.unsqueeze(2) * self.rates_D)
        return History(history_BL, age_BL, decayed_BLD, (history_BL < self.n_articles).to(torch.float32))

    def forward(
        self,
        history: History,
        taste_BV: Tensor,
        segment_B: Tensor,
        extra_pool_P: Tensor,
        penalty_N1: Tensor,
        *,
        best_first: bool,
        newest: slice,
    ) -> Retrieved:
        """Choose the candidates.

        taste_BV: log of how much oftener the customer buys each value of an attribute than everyone does;
        extra_pool_P: live positions that everyone of the batch is ranked on too; penalty_N1: 0 or NOT_ALLOWED;
        best_first: order candidates by their retrieval score, which costs ten times as much as to choose them;
        newest: NEWEST, or slice(None) where no history is longer than WINDOW.
        """
        articles_BL, age_BL = history.articles_BL, history.age_BL
        B, L = articles_BL.shape
        # What the history touches comes first, so that sums need no more places than that.
        touched_BWJ = embedding(articles_BL[:, newest], self.touched_AJ)
        W, J, C = touched_BWJ.shape[1], touched_BWJ.shape[2], self.n_candidates
        extra_BP = extra_pool_P.to(torch.int32).expand(B, -1)
        slots_BT = torch.cat([self.position_A1[articles_BL], touched_BWJ.flatten(1), extra_BP], dim=1).to(torch.int64)
        opened_BO = self._opened_BO(taste_BV)
        slots_BX = torch.cat([slots_BT, opened_BO], dim=1)
        slots_BS = torch.cat([slots_BX, embedding(segment_B, self.pools_SC)], dim=1)
        # The first slot of an article stands for it: sums go there, and the others never win. Slots are numbered up to
        # -1, so that an article of the segment alone keeps its 0, and one that is not allowed NOT_ALLOWED.
        T, X = slots_BT.shape[1], slots_BX.shape[1]
        number_X = torch.arange(-X, 0, dtype=torch.float32)
        first_BN1 = penalty_N1.expand(B, -1).scatter_reduce(1, slots_BX, number_X.expand(B, -1), reduce="amin")
        first_BS = first_BN1.gather(1, slots_BS)
        # A customer's rows of sums: one for all that is not allowed, one for each touched slot, one without sums for
        # all that is untouched.
        n_rows = T + 2
        place_BS = (first_BS.clamp(max=-opened_BO.shape[1]) + (X + 1)).clamp(min=0.0)
        row_BS = place_BS.to(torch.int64) + torch.arange(B).unsqueeze(1) * n_rows
        row_BL, R = row_BS[:, :L], B * n_rows

        place_BWJ = row_BS[:, L : L + W * J].reshape(B, W, J) * len(FAMILIES) + self.family_J
        place_X = torch.cat([row_BL * len(FAMILIES), place_BWJ.flatten(1)], dim=1).flatten()
        # Sums begin with the 1 of 1 + scale * sum, ages with NEVER.
        sums_RX = torch.ones((R, len(SUMS))).reshape(-1, len(self.rates_D))
        sums_RX = sums_RX.index_put((place_X,), self._weights_XD(history, newest), accumulate=True)
        sums_RX = sums_RX.reshape(-1, len(SUMS))
        touched_age_BWJ = age_BL.unsqueeze(2)[:, newest] * self.ones_1J
        age_X = torch.cat([age_BL, touched_age_BWJ.flatten(1)], dim=1).flatten()
        newest_RF = torch.full((R, len(FAMILIES)), NEVER).flatten().scatter_reduce(0, place_X, age_X, reduce="amin")
        newest_RF = newest_RF.reshape(-1, len(FAMILIES))
        oldest_R = torch.zeros(R).scatter_reduce(0, row_BL.flatten(), age_BL.flatten(), reduce="amax")

        asked_3R = torch.addmm(self.asked_31, self.asked_3X, sums_RX.T)
        n_bought_R = asked_3R[0] - 1.0
        lift_R = LIFT * torch.log(asked_3R.prod(dim=0)) + torch.where(n_bought_R > 0.5, BOUGHT_LIFT, 0.0)
        segment_start_B1 = (segment_B * (self.n_live + 1)).unsqueeze(1)
        popularity_BX = self.popularity_X.gather(0, (slots_BX + segment_start_B1).flatten()).reshape(B, X)
        popularity_BS = torch.cat([popularity_BX, embedding(segment_B, self.pool_popularity_SC)], dim=1)
        number_S = torch.cat([number_X, torch.zeros(C)])
        lift_BS = lift_R.gather(0, row_BS.flatten()).reshape(row_BS.shape) + self._liked_BS(taste_BV, slots_BS)
        score_BS = torch.where(first_BS == number_S, popularity_BS + lift_BS, NOT_ALLOWED)
        score_BC, chosen_BC = torch.topk(score_BS, C, dim=1, sorted=best_first)
        row_BC = row_BS.gather(1, chosen_BC)
        return Retrieved(
            slots_BS.gather(1, chosen_BC),
            score_BC > 0.5 * NOT_ALLOWED,
            popularity_BS.gather(1, chosen_BC).unsqueeze(0),
            embedding(row_BC, sums_RX).permute(2, 0, 1),
            n_bought_R[row_BC].unsqueeze(0),
            embedding(row_BC, newest_RF).permute(2, 0, 1),
            oldest_R[row_BC].unsqueeze(0),
        )

    def _opened_BO(self, taste_BV: Tensor) -> Tensor:
        """Live positions on the shelves that each customer is most likely to buy from."""
        expected_BV = taste_BV + self.log_shares_V
        rows, n_shelves = [], 0
        for first, end in self.shelf_ranges:
            best = torch.topk(expected_BV[:, first:end], min(N_OPENED, end - first), dim=1).indices
            rows.append(best + n_shelves)
            n_shelves += end - first
        return embedding(torch.cat(rows, dim=1), self.shelves_XO).flatten(1)

    def _liked_BS(self, taste_BV: Tensor, slots_BS: Tensor) -> Tensor:
        """Sum of the customer's taste for the shelves of each slot's article."""
        B, S = slots_BS.shape
        at_BKS = torch.cat([slots_BS + k * (self.n_live + 1) for k in range(len(SHELVES))], dim=1)
        value_BKS = self.shelf_Y.gather(0, at_BKS.flatten()).to(torch.int64).reshape(B, -1)
        value_BKS = value_BKS + torch.arange(B).unsqueeze(1) * taste_BV.shape[1]
        taste_BKS = taste_BV.flatten().gather(0, value_BKS.flatten()).reshape(B, len(SHELVES), S)
        return taste_BKS.sum(dim=1)

    def _weights_XD(self, history: History, newest: slice) -> Tensor:
        """Scaled weight of each purchase for itself, then for each article that it touches, customer by customer."""
        articles_BL, age_BL, decayed_BLD, _ = history
        # Pieces of one article bought on one day are one purchase; in a history they are side by side.
        is_same_BL = (articles_BL[:, 1:] == articles_BL[:, :-1]) & (age_BL[:, 1:] == age_BL[:, :-1])
        scale_BL = pad(torch.where(is_same_BL, 0.0, SCALES[0]), (1, 0), value=SCALES[0])
        strengths_BWJ = embedding(articles_BL[:, newest], self.strengths_AJ).to(torch.float32)
        touching_BWX = (decayed_BLD[:, newest] @ self.tile_DX) * (strengths_BWJ @ self.repeat_JX)
        touching_BXD = touching_BWX.reshape(touching_BWX.shape[0], -1, len(self.rates_D))
        return torch.cat([decayed_BLD * scale_BL.unsqueeze(2), touching_BXD], dim=1).flatten(0, 1)


def register(module: nn.Module, buffers: Mapping[str, npt.NDArray[Any]]) -> None:
    """Make arrays buffers of a module, floats of 64 bits as 32."""
    for name, values in buffers.items():
        narrow = values.astype(np.float32) if values.dtype == np.float64 else values
        module.register_buffer(name, torch.from_numpy(np.ascontiguousarray(narrow)))


def best_of_segments(retrieval_SN: Float32, k: int) -> Int64:
    """Live positions of each segment's k most popular articles, best first, ties by position; [S, k]."""
    position_N = np.arange(retrieval_SN.shape[1])
    return np.stack([np.lexsort((position_N, -row_N))[:k] for row_N in retrieval_SN]).astype(np.int64)


def best_of_values(values_N: Int64, popularity_N: Float32, n_values: int, k: int) -> Int64:
    """Live positions of each value's k most popular articles, best first, ties by position; N pads; [n_values, k].

    values_N: value of each live article, from 0 to n_values - 1; popularity_N: the larger, the more popular.
    """
    order = np.lexsort((-popularity_N, values_N))
    values = values_N[order]
    rank = np.arange(len(order)) - np.searchsorted(values, values)
    best = np.full((n_values, k), len(order), dtype=np.int64)
    keep = rank < k
    best[values[keep], rank[keep]] = order[keep]
    return best
