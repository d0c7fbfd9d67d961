"""The two-stage rival: retrieval, then LightGBM's lambdarank on the label weeks before the cutoff."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np

from benchmarks.rivals.candidates import Retrieved, retrieve
from benchmarks.rivals.features import describe
from benchmarks.rivals.past import Past
from benchmarks.rivals.rules import fill_with_popularity
from pipelines.recommender.interactions import Bool, Float32, Int32, Int64, Interactions
from pipelines.recommender.label_week import buyers_of, is_among, purchase_keys

LABEL_WEEKS = 16
MAX_CUSTOMERS = 24_000
"""Customers with a bought candidate to learn from, over all weeks: minutes of one core for each cutoff."""
PARAMETERS = {
    "objective": "lambdarank",
    "metric": "map",
    "eval_at": [12],
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "lambdarank_truncation_level": 20,
    "max_bin": 127,
    "num_threads": 1,
    "seed": 7,
    "deterministic": True,
    "verbosity": -1,
}
MAX_ROUNDS = 500
PATIENCE = 40


@dataclass(frozen=True)
class RankedWeek:
    """One label week's customers with a bought candidate, described; P candidates in groups."""

    names: list[str]
    features_PF: Float32
    is_bought_P: Bool
    group_sizes: Int64


class TwoStage:
    """Keeps the described label weeks that several cutoffs share."""

    def __init__(self, past_of: Callable[[int], Past], purchases: Interactions, horizon_days: int) -> None:
        self._past_of = past_of
        self._purchases = purchases
        self._horizon_days = horizon_days
        self._weeks: dict[tuple[int, int], RankedWeek | None] = {}
        self.importance: dict[str, float] = {}
        self.n_rounds = 0
        self.candidate_keys: list[Int64] = []
        """customer * n_articles + article of every candidate that the last answer ranked."""

    def answer(self, past: Past, customers: Int32, k: int) -> Int64:
        """Fit before past.day and rank the candidates of `customers`."""
        model = self._fit(past.day)
        self.candidate_keys = []
        answers = [
            self._rank(model, past, part, k) for part in np.array_split(customers, max(1, -(-len(customers) // 4000)))
        ]
        return fill_with_popularity(past, np.concatenate(answers))

    def _fit(self, day: int) -> lgb.Booster:
        """Stop early on the newest label week before `day`, then fit that many rounds on all of them."""
        days = [day - self._horizon_days * (number + 1) for number in range(LABEL_WEEKS)]
        days = [one for one in days if one >= min(28, day // 3)]
        cap = -(-MAX_CUSTOMERS // len(days))
        weeks = [week for one in days if (week := self._week(one, cap)) is not None]
        newest, older = _dataset(weeks[:1]), _dataset(weeks[1:] or weeks)
        stopped = lgb.train(
            PARAMETERS,
            older,
            MAX_ROUNDS,
            valid_sets=[newest],
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        )
        self.n_rounds = max(stopped.best_iteration, 10)
        model = lgb.train(PARAMETERS, _dataset(weeks), self.n_rounds)
        gain = model.feature_importance("gain")
        self.importance = dict(zip(weeks[0].names, (gain / max(gain.sum(), 1e-9)).tolist(), strict=True))
        return model

    def _week(self, day: int, cap: int) -> RankedWeek | None:
        """Describe a label week that starts on `day`; None when nobody bought a candidate."""
        if (day, cap) not in self._weeks:
            past = self._past_of(day)
            bought = self._purchases.between(day, day + self._horizon_days)
            buyers, _ = buyers_of(bought)
            buyers = np.sort(np.random.default_rng([7, day]).permutation(buyers)[: 2 * cap])
            found = retrieve(past, buyers)
            is_bought_P = self._is_bought(found, bought)
            has_hit_R = np.bincount(found.row_P[is_bought_P], minlength=len(buyers)) > 0
            taught = buyers[has_hit_R][:cap]
            if not len(taught):
                self._weeks[day, cap] = None
                return None
            found = retrieve(past, taught)
            names, features_PF = describe(past, found)
            sizes = np.bincount(found.row_P, minlength=len(taught))
            self._weeks[day, cap] = RankedWeek(names, features_PF, self._is_bought(found, bought), sizes)
        return self._weeks[day, cap]

    def _is_bought(self, found: Retrieved, bought: Interactions) -> Bool:
        customers_P = found.customers_R[found.row_P]
        return is_among(found.article_P[:, None], customers_P, purchase_keys(bought), bought.n_articles)[:, 0]

    def _rank(self, model: lgb.Booster, past: Past, customers: Int32, k: int) -> Int64:
        found = retrieve(past, customers)
        self.candidate_keys.append(customers[found.row_P].astype(np.int64) * past.n_articles + found.article_P)
        scores_P = np.asarray(model.predict(describe(past, found)[1]))
        order = np.lexsort((found.article_P, -scores_P, found.row_P))
        rows, articles = found.row_P[order], found.article_P[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        answers_RK = np.full((len(customers), k), -1, dtype=np.int64)
        answers_RK[rows[rank < k], rank[rank < k]] = articles[rank < k]
        return answers_RK


def _dataset(weeks: list[RankedWeek]) -> lgb.Dataset:
    return lgb.Dataset(
        np.concatenate([week.features_PF for week in weeks]),
        np.concatenate([week.is_bought_P for week in weeks]).astype(np.int8),
        group=np.concatenate([week.group_sizes for week in weeks]),
        feature_name=weeks[0].names,
        params=PARAMETERS,
    )
