"""The customers: who they are, where in the shop they are at home, what they like and how often they come.

Legend: C customers, D dimensions of style, F favourite sections.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.data.synthetic.assortment import HOME_GROUPS, N_STYLE
from pipelines.data.synthetic.chance import Bools, Bytes, Floats, draw_from, stream, unit_vectors
from pipelines.data.synthetic.size import ShopSize
from pipelines.data.synthetic.vocabulary import AGE_BAND_SHARES, AGE_BANDS, COLOURS, HOME_SHARES, SECTIONS

FAVOURITES_AT_HOME = (1.0, 0.7, 0.5, 0.3)
"""for each favourite section, the dearest first, the chance that it lies in the home part of the shop"""
NEVER = np.iinfo(np.int16).max
NEVER_BUYS_SHARE = 0.007
OPENING_SHARE = 0.4
"""of the customers, those who are there in the first two months"""
MEAN_STAY_WEEKS = 130


@dataclass(frozen=True, slots=True)
class Clientele:
    """Columns over customers; arrays that drift or remember are written to while the weeks pass."""

    age_C: Bytes
    home_C: Bytes
    """position in HOME_GROUPS"""
    pace_C: Floats
    """visits a week, before season and recency; up to a factor that the shop sets"""
    first_week_C: NDArray[np.int16]
    last_week_C: NDArray[np.int16]
    favourites_CF: Bytes
    """sections, the dearest first"""
    style_CD: Floats
    colours_C2: Bytes
    """two liked colours"""
    likes_patterns_C: Bools
    price_z_C: Floats
    online_C: Floats
    basket_C: Floats

    def __len__(self) -> int:
        return len(self.age_C)


def build_clientele(size: ShopSize, n_sections: int) -> Clientele:
    rng = stream(size.seed, "clientele")
    n = size.customers
    band_C = draw_from(rng, np.array(AGE_BAND_SHARES), n)
    lower, upper = np.array(AGE_BANDS)[band_C], np.array(AGE_BANDS)[band_C + 1]
    home_C = _by_row(rng, np.array(HOME_SHARES), band_C)
    opening_C = rng.random(n) < OPENING_SHARE
    first_week_C = np.where(opening_C, rng.exponential(3, n), rng.uniform(0, size.weeks, n)).astype(np.int64)
    last_week_C = (first_week_C + rng.exponential(MEAN_STAY_WEEKS, n)).astype(np.int64)
    first_week_C[rng.random(n) < NEVER_BUYS_SHARE] = NEVER
    return Clientele(
        age_C=(lower + rng.random(n) * (upper - lower)).astype(np.uint8),
        home_C=home_C.astype(np.uint8),
        pace_C=np.exp(rng.normal(0, 1.0, n)).astype(np.float32),
        first_week_C=first_week_C.clip(0, NEVER).astype(np.int16),
        last_week_C=last_week_C.clip(0, NEVER - 1).astype(np.int16),
        favourites_CF=np.stack(
            [draw_sections(rng, home_C, n_sections, stay=stay) for stay in FAVOURITES_AT_HOME], axis=1
        ),
        style_CD=unit_vectors(rng.standard_normal((n, N_STYLE))).astype(np.float32),
        colours_C2=draw_from(rng, np.array([colour.weight for colour in COLOURS]), 2 * n)
        .astype(np.uint8)
        .reshape(n, 2),
        likes_patterns_C=rng.random(n) < 0.35,
        price_z_C=rng.standard_normal(n).astype(np.float32),
        online_C=rng.beta(1.6, 0.7, n).astype(np.float32),
        basket_C=np.exp(rng.normal(0, 0.6, n)).astype(np.float32),
    )


def draw_sections(
    rng: np.random.Generator,
    home_C: NDArray[Any],
    n_sections: int,
    *,
    stay: float,
    weights: NDArray[np.float64] | None = None,
) -> Bytes:
    """Draw a section for each customer: within the home part of the shop with probability stay, else anywhere."""
    if weights is None:
        weights = np.array([section.weight for section in SECTIONS[:n_sections]])
    group = np.array([HOME_GROUPS.index(section.index_group[0]) for section in SECTIONS[:n_sections]])
    at_home = np.stack([np.where(group == home, weights, 0.0) + 1e-9 for home in range(len(HOME_GROUPS))])
    inside = _by_row(rng, at_home, home_C)
    anywhere = draw_from(rng, weights, len(home_C))
    return np.where(rng.random(len(home_C)) < stay, inside, anywhere).astype(np.uint8)


def _by_row(rng: np.random.Generator, weights_RK: NDArray[np.float64], row_N: NDArray[Any]) -> NDArray[np.int64]:
    """Draw one position for each entry of row_N in proportion to that row of weights."""
    bounds_RK = np.cumsum(weights_RK, axis=1)
    bounds_RK /= bounds_RK[:, -1:]
    u_N = rng.random(len(row_N))
    drawn_N = np.empty(len(row_N), dtype=np.int64)
    for row in range(len(weights_RK)):
        here = row_N == row
        drawn_N[here] = np.searchsorted(bounds_RK[row], u_N[here], side="right").clip(max=weights_RK.shape[1] - 1)
    return drawn_N
