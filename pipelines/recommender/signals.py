"""Candidates of each customer, and what the ranker is told of each: one day's tables as a part of the graph.

Legend: B customers in the batch, L history length, S slots, N live articles, C candidates, F ranker features, P pool of
a segment, K siblings, M neighbours, V attributes, D time decays.

Retrieval starts from the popularity of live articles in the customer's segment and lifts what the history touches:
articles bought before, their colour variants, articles bought together with them. Only touched articles and the best C
of the segment can win, so only these take part: the work does not grow with the catalogue.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from pipelines.recommender.interactions import ATTRIBUTES, Float32, Int64
from pipelines.recommender.tables import STATIC_FEATURES, Tables

DECAYS = (5.0, 20.0, 80.0, 320.0)
"""Days; a purchase of `age` days weighs exp(-age / tau)."""
TASTE_DECAY = LAST_DECAY = 320.0
"""The largest exp(-age / 320) of an article's purchases tells the age of the last one, in a form that scatters."""
FAMILIES = ("repurchase", "variant", "copurchase")
"""How the history touches an article: bought itself, in another colour, or together with one that was."""
WINDOW = 64
"""Newest purchases whose variants and neighbours are looked at; the rest of a long history speaks of repurchases."""
TASTE_PRIOR = 3.0
"""Purchases of everyone that a customer's own are mixed with before the two are compared."""

RANKER_FEATURES = (
    *(f"{family}_{tau:g}d" for tau in DECAYS for family in FAMILIES),
    *(f"{family}_count" for family in FAMILIES),
    *(f"{family}_age" for family in FAMILIES),
    *(f"is_{family}" for family in FAMILIES),
    "repurchase_share",
    "repurchase_gap",
    "repurchase_due",
    "repurchase_x_rebuy_rate",
    "repurchase_x_days_since_purchase",
    *(f"taste_{name}" for name in ATTRIBUTES),
    "price_distance",
    "sequence_score",
    "segment_popularity",
    "segment_lift",
    "history_length",
    "days_since_purchase",
    "has_history",
    *STATIC_FEATURES,
)
NOT_ALLOWED = -1e9
"""Penalty of an article that may not be answered; also the retrieval score of a slot that repeats an article."""
LIFTS = (20.0, 3.0, 3.0)
"""What retrieval adds for each family: a fixed bonus for the article itself, then by log of the decayed sums."""
SCALES = (20.0, 20.0, 200.0)


class Signals(nn.Module):
    """Candidates of each customer and the ranker's features of each, from one day's tables."""

    def __init__(self, tables: Tables, n_candidates: int) -> None:
        super().__init__()
        self.n_articles = tables.n_articles
        self.n_live = tables.n_live
        self.n_candidates = min(n_candidates, tables.n_live)
        self.n_siblings = tables.siblings_AK.shape[1]
        # One row more for the dead slot N, which padding and dead articles point at; it is never allowed.
        best_SP = best_of_segments(tables.retrieval_SN, self.n_candidates)
        touched_AJ = np.concatenate([tables.siblings_AK, tables.neighbours_AM], axis=1)
        strengths_AJ = np.concatenate([np.ones(tables.siblings_AK.shape), tables.neighbour_weights_AM], axis=1)
        padded_attributes_N1V = np.concatenate([tables.attributes_A1V[tables.live_N], tables.attributes_A1V[-1:]])
        prior_X = TASTE_PRIOR * tables.attribute_shares_X
        buffers = {
            "live_N1": np.append(tables.live_N, 0),
            "position_A1": tables.position_A1[:, None].astype(np.int32),
            "static_N1F": np.pad(tables.static_NF, ((0, 1), (0, 0))),
            "retrieval_X1": np.pad(tables.retrieval_SN, ((0, 0), (0, 1))).reshape(-1, 1),
            "pools_SP": best_SP,
            # Small types, as these two are most of the file; they are widened behind the lookup.
            "touched_AJ": touched_AJ.astype(np.int32),
            "strengths_AJ": strengths_AJ.astype(np.float16),
            "attributes_A1V": tables.attributes_A1V.astype(np.int32),
            "attributes_N1V": padded_attributes_N1V.astype(np.int32),
            "prior_1X": prior_X[None, :].astype(np.float32),
            "log_prior_N1V": np.log(prior_X[padded_attributes_N1V]).astype(np.float32),
            "log_price_A1": tables.log_price_A1[:, None],
            "log_price_N1": np.append(tables.log_price_A1[tables.live_N], 0.0).astype(np.float32)[:, None],
            "scales_11F1": np.array(SCALES, dtype=np.float32).reshape(1, 1, -1, 1),
            "rates_1D1": np.array([-1.0 / tau for tau in DECAYS] + [0.0], dtype=np.float32).reshape(1, -1, 1),
        }
        self.sequence = tables.sequence
        for name, values in buffers.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)))

    live_N1: Tensor
    position_A1: Tensor
    static_N1F: Tensor
    retrieval_X1: Tensor
    pools_SP: Tensor
    touched_AJ: Tensor
    strengths_AJ: Tensor
    attributes_A1V: Tensor
    attributes_N1V: Tensor
    prior_1X: Tensor
    log_prior_N1V: Tensor
    log_price_A1: Tensor
    log_price_N1: Tensor
    scales_11F1: Tensor
    rates_1D1: Tensor

    def retrieval_SN1(self) -> Tensor:
        """Log popularity of each live article in each segment; the last column is the dead slot's."""
        return self.retrieval_X1.reshape(-1, self.n_live + 1)

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
        B, D = history_BL.shape[0], len(DECAYS) + 1
        is_bought_BL = (history_BL < self.n_articles).to(torch.float32)
        age_BL = age_days_BL.clamp(1.0, 1000.0)
        decayed_BDL = torch.exp(age_BL.unsqueeze(1) * self.rates_1D1) * is_bought_BL.unsqueeze(1)
        # Pieces of one article bought on one day are one purchase; in a history they are side by side.
        is_same_B1 = torch.zeros_like(is_bought_BL[:, :1])
        is_same_BL = (history_BL[:, 1:] == history_BL[:, :-1]) & (age_BL[:, 1:] == age_BL[:, :-1])
        is_day_BL = 1.0 - torch.cat([is_same_B1, is_same_BL.to(torch.float32)], dim=1)
        recent_BW = history_BL[:, -WINDOW:]

        own_BL = embedding(history_BL, self.position_A1).squeeze(2).to(torch.int64)
        touched_BWJ = embedding(recent_BW, self.touched_AJ).to(torch.int64)
        strengths_BWJ = embedding(recent_BW, self.strengths_AJ).to(torch.float32)
        history_slots_BT = torch.cat([own_BL, touched_BWJ.flatten(1)], dim=1)
        extra_BP = extra_pool_P.unsqueeze(0).expand(B, -1)
        slots_BS = torch.cat([history_slots_BT, embedding(segment_B, self.pools_SP), extra_BP], dim=1)
        number_1S = torch.arange(slots_BS.shape[1]).unsqueeze(0)
        # The first slot of an article stands for it: sums go there, and the others never win.
        firsts = torch.full((B, self.n_live + 1), 2**30, dtype=torch.int64)
        first_BS = firsts.scatter_reduce(1, slots_BS, number_1S.expand_as(slots_BS), reduce="amin").gather(1, slots_BS)

        # One row of slots for each family, side by side.
        S = slots_BS.shape[1]
        n_touched = touched_BWJ.shape[2]
        family_J = (torch.arange(n_touched) >= self.n_siblings).to(torch.int64) + 1
        family_BT = torch.cat(
            [torch.zeros_like(own_BL), family_J.reshape(1, 1, -1).expand_as(touched_BWJ).flatten(1)], dim=1
        )
        place_BT = first_BS[:, : history_slots_BT.shape[1]] + family_BT * S
        recent_BDW = decayed_BDL[:, :, -WINDOW:]
        weights_BDT = torch.cat(
            [decayed_BDL * is_day_BL.unsqueeze(1), (recent_BDW.unsqueeze(3) * strengths_BWJ.unsqueeze(1)).flatten(2)],
            dim=2,
        )
        latest_BW1 = recent_BDW[:, DECAYS.index(LAST_DECAY)].unsqueeze(2)
        latest_BT = torch.cat(
            [decayed_BDL[:, DECAYS.index(LAST_DECAY)], latest_BW1.expand(-1, -1, n_touched).flatten(1)], dim=1
        )
        sums_BDFS = (
            torch.zeros((B, D, len(FAMILIES) * S))
            .scatter_add(2, place_BT.unsqueeze(1).expand_as(weights_BDT), weights_BDT)
            .reshape(B, D, len(FAMILIES), S)
        )
        latest_BFS = (
            torch.zeros((B, len(FAMILIES) * S))
            .scatter_reduce(1, place_BT, latest_BT, reduce="amax")
            .reshape(B, len(FAMILIES), S)
        )
        # The article's first purchase in the history; with the last one and the count it gives the usual gap.
        oldest_BS = torch.zeros((B, S)).scatter_reduce(
            1, first_BS[:, : own_BL.shape[1]], age_BL * is_bought_BL, reduce="amax"
        )
        at_80 = DECAYS.index(80.0)
        segment_start_B1 = (segment_B * (self.n_live + 1)).unsqueeze(1)
        retrieval_BS = (
            embedding(slots_BS + segment_start_B1, self.retrieval_X1).squeeze(2)
            + LIFTS[0] * (latest_BFS[:, 0] > 0).to(torch.float32)  # what was bought before is always a candidate,
            + LIFTS[1] * torch.log1p(sums_BDFS[:, -1, 0])  # what was bought on more days before the rest
            + LIFTS[1] * torch.log1p(SCALES[1] * sums_BDFS[:, at_80, 1])
            + LIFTS[2] * torch.log1p(SCALES[2] * sums_BDFS[:, at_80, 2])
            + penalty_N1[slots_BS]
            + (first_BS != number_1S).to(torch.float32) * NOT_ALLOWED
        )
        retrieved_BC, chosen_BC = torch.topk(retrieval_BS, self.n_candidates, dim=1)
        candidates_BC = slots_BS.gather(1, chosen_BC)
        C = self.n_candidates
        sums_BDFC = sums_BDFS.gather(3, chosen_BC.reshape(B, 1, 1, C).expand(B, D, len(FAMILIES), C))
        latest_BFC = latest_BFS.gather(2, chosen_BC.unsqueeze(1).expand(B, len(FAMILIES), C))
        oldest_BC = oldest_BS.gather(1, chosen_BC)
        features_BCF = self._features(
            candidates_BC,
            sums_BDFC,
            latest_BFC,
            oldest_BC,
            history_BL,
            age_BL,
            decayed_BDL,
            is_bought_BL,
            segment_start_B1,
        )
        return candidates_BC, retrieved_BC > 0.5 * NOT_ALLOWED, features_BCF

    def _features(
        self,
        candidates_BC: Tensor,
        sums_BDFC: Tensor,
        latest_BFC: Tensor,
        oldest_BC: Tensor,
        history_BL: Tensor,
        age_BL: Tensor,
        decayed_BDL: Tensor,
        is_bought_BL: Tensor,
        segment_start_B1: Tensor,
    ) -> Tensor:
        B, C = history_BL.shape[0], self.n_candidates
        static_BCF = embedding(candidates_BC, self.static_N1F)
        # Never touched reads as touched 1,100 days ago: one continuous scale.
        days_BFC = (-LAST_DECAY * torch.log(latest_BFC.clamp(min=1e-12))).clamp(1.0, 1100.0)
        age_BFC = torch.log(days_BFC)
        is_touched_BFC = (latest_BFC > 0).to(torch.float32)
        is_newest_bought_B1 = is_bought_BL[:, -1:]
        has_history_B1 = is_newest_bought_B1  # padded on the left: without a newest purchase there is none
        since_B1 = torch.log(age_BL[:, -1:] * is_newest_bought_B1 + 1000.0 * (1.0 - is_newest_bought_B1))
        rebuy_BC = static_BCF[:, :, STATIC_FEATURES.index("rebuy_rate")]
        is_repurchase_BC = is_touched_BFC[:, 0]
        n_bought_B1 = is_bought_BL.sum(dim=1, keepdim=True)
        count_BC = sums_BDFC[:, -1, 0]
        # Mean days between two purchases of the article; bought once, or all in one basket, reads as 1,100.
        has_gap_BC = (oldest_BC > days_BFC[:, 0] + 0.5).to(torch.float32)
        gap_BC = (oldest_BC - days_BFC[:, 0]) / (count_BC - 1.0).clamp(min=1.0)
        gap_BC = torch.log((gap_BC * has_gap_BC + 1100.0 * (1.0 - has_gap_BC)).clamp(min=1.0))
        crossed_BXC = torch.stack(
            [
                torch.log1p(20.0 * count_BC / n_bought_B1.clamp(min=1.0)),
                gap_BC,
                has_gap_BC * (age_BFC[:, 0] - gap_BC),
                is_repurchase_BC * rebuy_BC,
                is_repurchase_BC * since_B1,
            ],
            dim=1,
        )
        from_history_BCF = torch.cat(
            [torch.log1p(sums_BDFC * self.scales_11F1).flatten(1, 2), age_BFC, is_touched_BFC, crossed_BXC], dim=1
        ).transpose(1, 2)

        mass_BL = decayed_BDL[:, DECAYS.index(TASTE_DECAY)]
        total_B1 = mass_BL.sum(dim=1, keepdim=True)
        values_BLV = embedding(history_BL, self.attributes_A1V).to(torch.int64)
        mass_BX = self.prior_1X.expand(B, -1).scatter_add(
            1, values_BLV.flatten(1), mass_BL.unsqueeze(2).expand_as(values_BLV).flatten(1)
        )
        values_BCV = embedding(candidates_BC, self.attributes_N1V).to(torch.int64)
        shared_BCV = torch.log(mass_BX.gather(1, values_BCV.flatten(1))).reshape(B, C, -1)
        against_BCV = embedding(candidates_BC, self.log_prior_N1V) + torch.log1p(total_B1 / TASTE_PRIOR).unsqueeze(2)
        taste_BCV = shared_BCV - against_BCV

        usual_B1 = (embedding(history_BL, self.log_price_A1).squeeze(2) * mass_BL).sum(dim=1, keepdim=True)
        price_BC1 = embedding(candidates_BC, self.log_price_N1)
        distance_BC1 = (price_BC1 - (usual_B1 / total_B1.clamp(min=1e-12)).unsqueeze(2)).abs()
        sequence_BC1 = torch.zeros_like(price_BC1)
        if self.sequence is not None:
            newest = -self.sequence.encoder.shape.max_history
            customer_BD = self.sequence(history_BL[:, newest:], age_BL[:, newest:])
            vectors_BCD = embedding(self.live_N1[candidates_BC], self.sequence.vectors_A1D)
            sequence_BC1 = vectors_BCD @ customer_BD.unsqueeze(2)
        segment_BC1 = embedding(candidates_BC + segment_start_B1, self.retrieval_X1)
        everyone_BC1 = embedding(candidates_BC, self.retrieval_X1)
        customer_B3 = torch.cat([torch.log1p(n_bought_B1), since_B1, has_history_B1], dim=1)
        return torch.cat(
            [
                from_history_BCF,
                taste_BCV,
                distance_BC1 * has_history_B1.unsqueeze(2),
                sequence_BC1,
                segment_BC1,
                segment_BC1 - everyone_BC1,
                customer_B3.unsqueeze(1).expand(-1, C, -1),
                static_BCF,
            ],
            dim=2,
        )


def best_of_segments(retrieval_SN: Float32, k: int) -> Int64:
    """Live positions of each segment's k most popular articles, best first, ties by position; [S, k]."""
    position_N = np.arange(retrieval_SN.shape[1])
    return np.stack([np.lexsort((position_N, -row_N))[:k] for row_N in retrieval_SN]).astype(np.int64)
