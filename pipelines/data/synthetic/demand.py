"""What each week wants: article life cycles, seasons, trends and markdowns, as tables to draw articles from.

Legend: A articles, S sections.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from pipelines.data.synthetic.assortment import Assortment
from pipelines.data.synthetic.chance import Bools, Floats, Ints, stream
from pipelines.data.synthetic.size import ShopSize
from pipelines.data.synthetic.vocabulary import PRICE_UNIT, PRODUCT_TYPES

SLOTS = 8192  # resolution of a section's popularity: a share below 1/8192 sells by luck
BASIC_LIFE_WEEKS = 70
WEEKDAY_PULL = np.array([0.93, 0.86, 1.08, 1.08, 1.04, 1.06, 0.95])  # Monday first
TREND_MEMORY, TREND_NOISE = 0.85, 0.25


@dataclass(frozen=True, slots=True)
class WeekDemand:
    is_live_A: Bools
    slots_S: Ints
    """article positions, SLOTS for each section, as often as their share of its demand"""
    section_pull_S: NDArray[np.float64]
    section_season_S: NDArray[np.float64]
    """how far the season is one for the section, 0 to 1"""
    price_A: NDArray[np.float64]
    """what the till asks this week, on Kaggle's scale"""
    volume: float
    """the week's pull on visits; 1 = an average week"""
    day_pull: NDArray[np.float64]


class Demand:
    """Walk through the weeks in order: trends remember the week before."""

    def __init__(self, size: ShopSize, assortment: Assortment) -> None:
        self._size, self._shop = size, assortment
        self._trend_P = np.zeros(int(assortment.product_A[-1]) + 1)
        best_week = np.array([product_type.best_week for product_type in PRODUCT_TYPES])
        self._best_week_A = best_week[assortment.type_A]
        self._by_section = np.argsort(assortment.section_A, kind="stable").astype(np.int32)
        counts = np.bincount(assortment.section_A, minlength=assortment.n_sections)
        self._section_bounds = np.concatenate([[0], np.cumsum(counts)])

    def week(self, week: int) -> WeekDemand:
        shop = self._shop
        rng = stream(self._size.seed, "demand", week)
        self._trend_P *= TREND_MEMORY
        self._trend_P += rng.normal(0, TREND_NOISE, len(self._trend_P))
        monday = self._size.first_day + timedelta(days=7 * week)
        week_of_year = monday.timetuple().tm_yday / 7

        age_A = week + 0.5 - shop.launch_A.astype(np.float64)
        basic_A = shop.life_A > BASIC_LIFE_WEEKS
        comeback_A = shop.comes_back_A & (age_A > 52) & ~basic_A
        age_A = np.where(comeback_A, age_A - 52, age_A)
        is_live_A = (age_A > 0) & (age_A < shop.life_A)
        weight_A: NDArray[np.float64] = shop.popularity_A.astype(np.float64) * np.exp(self._trend_P[shop.product_A])
        weight_A *= _life_curve(age_A, shop.life_A, basic_A)
        seasonal = np.exp(1.5 * np.cos(2 * np.pi * (week_of_year - self._best_week_A) / 52.2)) / 1.6
        seasonal_A = np.where(self._best_week_A > 0, seasonal, 1.0)
        unseasonal_S = np.bincount(shop.section_A, weights=weight_A * is_live_A, minlength=shop.n_sections)
        weight_A *= seasonal_A
        # Whole numbers make the draw the same on machines whose exp() differs in the last bit.
        weight_A = np.where(is_live_A, np.rint(weight_A * 2**20) + 1, 0.0).astype(np.float64)
        pull_S = np.bincount(shop.section_A, weights=weight_A, minlength=shop.n_sections).astype(np.float64)
        return WeekDemand(
            is_live_A=is_live_A,
            slots_S=self._slots(rng, weight_A),
            section_pull_S=pull_S,
            section_season_S=np.clip(pull_S / 2**20 / np.maximum(unseasonal_S, 1e-9), 0, 1),
            price_A=_till_price(shop.price_A, age_A / shop.life_A, basic_A),
            volume=_volume(rng, monday),
            day_pull=self._day_pull(rng, monday),
        )

    def _slots(self, rng: np.random.Generator, weight_A: NDArray[np.float64]) -> Ints:
        """Lay each section's articles out over SLOTS places in proportion to weight."""
        places = np.empty((self._shop.n_sections, SLOTS), dtype=np.int32)
        everything = np.cumsum(weight_A)
        for section in range(self._shop.n_sections):
            members = self._by_section[self._section_bounds[section] : self._section_bounds[section + 1]]
            bounds = np.cumsum(weight_A[members]) if len(members) else np.zeros(1)
            if bounds[-1] == 0:  # nothing of this section is on sale: its customers look around
                members, bounds = np.arange(len(weight_A), dtype=np.int32), everything
            points = (np.arange(SLOTS) + rng.random(SLOTS)) * (bounds[-1] / SLOTS)
            places[section] = members[np.searchsorted(bounds, points, side="right").clip(max=len(members) - 1)]
        return places.reshape(-1)

    def _day_pull(self, rng: np.random.Generator, monday: date) -> NDArray[np.float64]:
        weekdays = [(monday + timedelta(days=day)).weekday() for day in range(7)]
        promoted = np.where(rng.random(7) < 0.04, 1.8, 1.0)
        return WEEKDAY_PULL[weekdays] * promoted * np.exp(rng.normal(0, 0.08, 7))


def _life_curve(age_A: NDArray[np.float64], life_A: Floats, basic_A: Bools) -> NDArray[np.float64]:
    """Rise within a fortnight, then fade with the article's life; basics stay level."""
    rise = np.clip(age_A / 1.5, 0, 1)
    return np.where(basic_A, rise * 0.6, rise * np.exp(-1.8 * np.maximum(age_A, 0) / life_A))


def _till_price(price_A: Floats, lived_A: NDArray[np.float64], basic_A: Bools) -> NDArray[np.float64]:
    """Mark articles down near the end of their lives, in steps as shops do."""
    factor = np.select([basic_A | (lived_A < 0.6), lived_A < 0.8], [1.0, 0.7], 0.5)
    cents_A: NDArray[np.float64] = np.rint(price_A.astype(np.float64) * factor * 100)
    return cents_A / 100 / PRICE_UNIT


def _volume(rng: np.random.Generator, monday: date) -> float:
    """Early summer and the weeks before Christmas sell most; January and February least."""
    week_of_year = monday.timetuple().tm_yday / 7
    summer = 0.25 * np.exp(-(((week_of_year - 25) / 5) ** 2))
    winter = 0.2 * np.exp(-(((week_of_year - 47.5) / 2) ** 2))
    quiet = -0.15 * np.exp(-(((week_of_year - 6) / 4) ** 2))
    return float((1 + summer + winter + quiet) * np.exp(rng.normal(0, 0.05)))
