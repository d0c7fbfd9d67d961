"""What is known of each article on the morning of one day: the model's tables, from the past alone.

Legend: A articles of the catalogue, N live articles, F article features, S segments, K siblings, M neighbours.
Decayed counts weigh a purchase of `age` days by exp(-age / tau), so recent ones lead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.recommender.copurchase import neighbours_of, run_starts
from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.interactions import ATTRIBUTES, Catalogue, Float32, Float64, Int32, Int64, Interactions
from pipelines.recommender.sequence import SequenceModel

AGE_BANDS = (0.0, 25.0, 35.0, 45.0, 55.0)
"""Lower bounds of the age segments 1..5; 0 is an unknown customer, 6 a known one of unknown age."""
N_SEGMENTS = len(AGE_BANDS) + 2

POPULARITY_DECAYS_DAYS = (2.0, 5.0, 20.0, 80.0, 320.0)
KERNEL_WIDTHS = (20.0, 200.0, 2000.0)
"""Article numbers are given in order of design, so the neighbours of a best seller's number are its season."""
LIVE_WINDOWS_DAYS = (28, 56, 91, 182, 364)
MIN_LIVE = 100
"""A shop with fewer live articles ranks its whole catalogue: this many may be asked for."""
MAX_VALUES = 10_000
"""Of an attribute; where nearly each article has a value of its own, the others say no more than the article does."""

STATIC_FEATURES = (
    *(f"own_{tau:g}d" for tau in POPULARITY_DECAYS_DAYS),
    *(f"product_{tau:g}d" for tau in POPULARITY_DECAYS_DAYS),
    *(f"neighbourhood_{width:g}" for width in KERNEL_WIDTHS),
    *(f"trend_{name}" for name in ATTRIBUTES),
    "trend",
    "age",
    "product_age",
    "is_unsold",
    "last_sale",
    "rebuy_rate",
    "pieces_per_buyer",
    "rank",
    "price",
)


@dataclass(frozen=True)
class Tables:
    """One day's tables; everything here is a function of purchases before `day`."""

    day: int
    n_articles: int
    live_N: Int64
    """`article_index` of each live article, ascending."""
    position_A1: Int64
    """Position among the live ones; N for a dead article and for padding (last row)."""
    static_NF: Float32
    retrieval_SN: Float32
    """Log popularity of each live article in each segment: what retrieval starts from."""
    siblings_AK: Int64
    """Live positions of the colour variants of each article; N pads. [A + 1, K]"""
    neighbours_AM: Int64
    neighbour_weights_AM: Float32
    attributes_A1V: Int64
    """Attribute values numbered through: one vocabulary for all attributes. [A + 1, V]"""
    attribute_shares_X: Float32
    """Share of each value in the purchases of its attribute of late, never 0; 1 for the padding."""
    log_price_A1: Float32
    sequence: SequenceModel | None = None
    """Reads a history in its order; fitted on purchases before `day` too."""

    @property
    def n_live(self) -> int:
        return len(self.live_N)


def segment_of_age(age: Float32) -> npt.NDArray[np.uint8]:
    """Segment of known customers: 1..5 by age band, 6 when the age is unknown (nan)."""
    band = np.searchsorted(np.asarray(AGE_BANDS[1:], dtype=np.float32), np.nan_to_num(age), side="right") + 1
    return np.where(np.isnan(age), N_SEGMENTS - 1, band).astype(np.uint8)


def _decayed(history: Interactions, day: int, tau: float) -> Float64:
    """Purchases per week of each article, newest weighing most; [A]."""
    weight_of_age = np.exp(-np.arange(day + 1) / tau) * (7.0 / tau)
    return np.bincount(history.article, weight_of_age[day - history.day], history.n_articles).astype(
        np.float64, copy=False
    )


def _smooth(counts: Float64, width: float) -> Float64:
    """Gaussian average along the article numbers; width in articles."""
    reach = min(int(3 * width), len(counts) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    size = len(counts) + len(kernel) - 1
    padded = 1 << (size - 1).bit_length()
    full = np.fft.irfft(np.fft.rfft(counts, padded) * np.fft.rfft(kernel / kernel.sum(), padded), padded)
    return np.maximum(full[reach : reach + len(counts)], 0.0)


def _live(history: Interactions, catalogue: Catalogue, day: int, minimum: int) -> Int64:
    """Articles worth ranking: those whose product sold recently.

    The window is the shortest that would have held 98 % of last month's sold products known before it, so it
    adapts to a shop's pace and size. Colour variants of a live product are live, sold or not.
    """
    product = catalogue.product_A[history.article]
    n_products = int(catalogue.product_A.max()) + 1
    last_sale = np.full(n_products, -(10**6), dtype=np.int32)  # as the days are: ufunc.at casts slowly
    known = history.day < day - 28
    np.maximum.at(last_sale, product[known], history.day[known])
    bought = np.unique(product[~known])
    gaps = (day - 28) - last_sale[bought]
    gaps = gaps[gaps < 10**5]
    window = next((w for w in LIVE_WINDOWS_DAYS if len(gaps) and (gaps <= w).mean() >= 0.98), LIVE_WINDOWS_DAYS[-1])
    np.maximum.at(last_sale, product, history.day)
    is_live = (day - last_sale <= window)[catalogue.product_A]
    if is_live.sum() < minimum:  # a tiny shop: everything is live
        is_live[:] = True
    return np.flatnonzero(is_live)


def _siblings(catalogue: Catalogue, position_A1: Int64, popularity_A: Float64, k: int) -> Int64:
    """Live colour variants of each article, the most popular first; [A + 1, k]."""
    n_live = int(position_A1[-1])
    order = np.lexsort((-popularity_A, catalogue.product_A))
    order = order[position_A1[order] < n_live]
    product = catalogue.product_A[order]
    n_products = int(catalogue.product_A.max()) + 1
    rank = np.arange(len(order)) - np.searchsorted(product, product)
    keep = rank <= k  # one more, since an article is no sibling of itself
    variants = np.full((n_products, k + 1), n_live, dtype=np.int64)
    variants[product[keep], rank[keep]] = position_A1[order[keep]]
    own = position_A1[:-1, None]
    rows = variants[catalogue.product_A]
    others = np.where(rows == own, n_live, rows)
    others = np.take_along_axis(others, np.argsort(others == n_live, axis=1, kind="stable"), axis=1)[:, :k]
    return np.concatenate([others, np.full((1, k), n_live, dtype=np.int64)])


def _common_values(values_A: Int32) -> Int32:
    """Keep the MAX_VALUES that most articles have, ties by number; all others are missing (0)."""
    n_articles = np.bincount(values_A)
    n_articles[0] = 0
    if len(n_articles) - 1 <= MAX_VALUES:
        return values_A
    kept = np.sort(np.argsort(-n_articles, kind="stable")[:MAX_VALUES])
    number = np.zeros(len(n_articles), dtype=np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    return number[values_A]


def _rank(counts_A: Float64) -> Int64:
    """Place of each article by its count, 0 for the largest; equals share the best place of theirs."""
    return np.asarray(len(counts_A) - np.searchsorted(np.sort(counts_A), counts_A, side="right"))


def _rebuy_rate(history: Interactions, catalogue: Catalogue) -> tuple[Float64, Int64]:
    """Log share of an article's buyers who came back for it on another day, shrunk to its product type's; and buyers.

    [A] each.
    """
    n_articles = history.n_articles
    key = history.customer.astype(np.int64) * n_articles + history.article
    # Rows are sorted by customer, day and article: the pieces of one basket are side by side.
    is_same = (key[1:] == key[:-1]) & (history.day[1:] == history.day[:-1])
    key = np.sort(key[np.concatenate([[True], ~is_same])[: len(key)]])
    starts = run_starts(key)
    n_days = np.diff(starts, append=len(key))
    article = key[starts] % n_articles
    buyers = np.bincount(article, minlength=n_articles)
    rebuyers = np.bincount(article[n_days > 1], minlength=n_articles)
    overall = (rebuyers.sum() + 1.0) / (buyers.sum() + 20.0)
    product_type = catalogue.attributes_AV[:, 0]
    type_rate = (np.bincount(product_type, rebuyers) + 20 * overall) / (np.bincount(product_type, buyers) + 20)
    return np.asarray(np.log((rebuyers + 10 * type_rate[product_type]) / (buyers + 10))), buyers


def build_tables(
    past: Interactions,
    catalogue: Catalogue,
    customer_segments: npt.NDArray[np.uint8],
    day: int,
    hyperparameters: Hyperparameters,
) -> Tables:
    """Build the tables for `day` from the purchases before it; later rows in `past` are not looked at."""
    history = past.before(day)
    n_articles, product_A = catalogue.n_articles, catalogue.product_A
    n_products = int(product_A.max()) + 1
    products = product_A[history.article]
    own = {tau: _decayed(history, day, tau) for tau in POPULARITY_DECAYS_DAYS}
    product = {tau: np.bincount(product_A, own[tau], n_products)[product_A] for tau in POPULARITY_DECAYS_DAYS}

    live_N = _live(history, catalogue, day, minimum=MIN_LIVE)
    position_A1 = np.full(n_articles + 1, len(live_N), dtype=np.int64)
    position_A1[live_N] = np.arange(len(live_N))

    first_sale = np.full(n_articles, day, dtype=np.int32)
    np.minimum.at(first_sale, history.article, history.day)
    last_sale = np.full(n_articles, day - 400, dtype=np.int32)
    np.maximum.at(last_sale, history.article, history.day)
    product_first_sale = np.full(n_products, day, dtype=np.int32)
    np.minimum.at(product_first_sale, products, history.day)
    n_sold = np.bincount(history.article, minlength=n_articles)
    product_sold = np.bincount(products, minlength=n_products)
    log_price = np.log(np.maximum(history.price, 1e-6), dtype=np.float64)
    mean_log_price = log_price.mean() if len(log_price) else 0.0
    product_price = (np.bincount(products, log_price, n_products) + mean_log_price) / (product_sold + 1)
    price_A = (np.bincount(history.article, log_price, n_articles) + product_price[product_A]) / (n_sold + 1)

    rebuy_rate_A, n_buyers_A = _rebuy_rate(history, catalogue)
    middle = own[20.0]
    columns = {
        **{f"own_{tau:g}d": np.log(own[tau] + 0.01) for tau in POPULARITY_DECAYS_DAYS},
        **{f"product_{tau:g}d": np.log(product[tau] + 0.01) for tau in POPULARITY_DECAYS_DAYS},
        **{f"neighbourhood_{width:g}": np.log(_smooth(middle, width) + 1e-4) for width in KERNEL_WIDTHS},
        "trend": np.log((own[5.0] + 0.05) / (own[80.0] + 0.05)),
        "age": np.log1p(np.minimum(day - first_sale, 400)),
        "product_age": np.log1p(np.minimum(day - product_first_sale, 400))[product_A],
        "is_unsold": (n_sold == 0).astype(np.float64),
        "last_sale": np.log1p(np.minimum(day - last_sale, 400)),
        "rebuy_rate": rebuy_rate_A,
        "pieces_per_buyer": np.log((n_sold + 1.0) / (n_buyers_A + 1.0)),
        "rank": np.log1p(_rank(own[5.0])),
        "price": price_A,
    }
    for v, name in enumerate(ATTRIBUTES):
        values = catalogue.attributes_AV[:, v]
        columns[f"trend_{name}"] = np.log((np.bincount(values, middle) + 1e-3) / (np.bincount(values) + 20))[values]
    static_AF = np.stack([columns[name] for name in STATIC_FEATURES], axis=1)

    prior = middle + 0.3 * own[80.0] + 0.1 * product[20.0] + 0.1 * _smooth(middle, KERNEL_WIDTHS[0])
    overall = (prior / max(prior.sum(), 1e-9))[live_N]
    retrieval_SN = np.empty((N_SEGMENTS, len(live_N)), dtype=np.float32)
    recent = history.between(day - 28, day)
    for segment in range(N_SEGMENTS):
        rows = customer_segments[recent.customer] == segment
        sold = np.bincount(recent.article[rows], minlength=n_articles)[live_N]
        # A segment's own sales speak once they outweigh 200 purchases of everyone's.
        retrieval_SN[segment] = np.log((sold + 200 * overall) / (sold.sum() + 200) + 1e-7)

    siblings_AK = _siblings(catalogue, position_A1, prior, hyperparameters.n_siblings)
    neighbours_AM, weights_AM = neighbours_of(history, day, position_A1, hyperparameters.n_neighbours)
    values_AV = np.stack([_common_values(values_A) for values_A in catalogue.attributes_AV.T], axis=1)
    sizes = values_AV.max(axis=0) + 1
    starts = np.concatenate([[0], np.cumsum(sizes)])
    numbered = values_AV.astype(np.int64) + starts[:-1]
    padding = np.full((1, len(ATTRIBUTES)), starts[-1], dtype=np.int64)
    taken = np.bincount(numbered.ravel(), np.repeat(own[80.0], len(ATTRIBUTES)), starts[-1])
    offered = np.bincount(numbered.ravel(), minlength=starts[-1]) / n_articles
    attribute = np.repeat(np.arange(len(ATTRIBUTES)), sizes)
    shares = (taken + 10 * offered + 0.01) / (np.bincount(attribute, taken + 10 * offered + 0.01)[attribute])
    return Tables(
        day=day,
        n_articles=n_articles,
        live_N=live_N.astype(np.int64),
        position_A1=position_A1,
        static_NF=static_AF[live_N].astype(np.float32),
        retrieval_SN=retrieval_SN,
        siblings_AK=siblings_AK,
        neighbours_AM=neighbours_AM,
        neighbour_weights_AM=weights_AM,
        attributes_A1V=np.concatenate([numbered, padding]),
        attribute_shares_X=np.append(shares, 1.0).astype(np.float32),
        log_price_A1=np.append(price_A, mean_log_price).astype(np.float32),
    )
