"""The shop as a stream of weeks: same address, same rows, whatever the machine's memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.data.synthetic.assortment import Assortment, build_assortment
from pipelines.data.synthetic.baskets import N_KEPT, Baskets
from pipelines.data.synthetic.chance import Ints, stream, unit_vectors
from pipelines.data.synthetic.clientele import Clientele, build_clientele, draw_sections
from pipelines.data.synthetic.demand import Demand
from pipelines.data.synthetic.size import ShopSize
from pipelines.data.synthetic.visits import Visits, draw_basket_sizes, open_visits

EPOCH = date(1970, 1, 1)
DRIFT_WEEKS = 13  # everyone's taste moves a little once a quarter
DRIFT = 0.3
REDRAWN_FAVOURITES = (0.03, 0.06, 0.1, 0.15)  # chance that a quarter brings another section, dearest first
MEMBER_DISCOUNT_SHARE, MEMBER_DISCOUNT = 0.1, 0.9


@dataclass(frozen=True, slots=True)
class WeekOfSales:
    """Rows in order of day and, within a day, of customer."""

    customer_R: Ints
    article_R: Ints
    day_R: Ints
    """days since 1970-01-01"""
    price_R: NDArray[np.float64]
    channel_R: NDArray[np.int8]


class Shop:
    """A synthetic fashion shop; open it once for each pass over its weeks."""

    def __init__(self, size: ShopSize) -> None:
        self.size = size
        self.assortment: Assortment = build_assortment(size)
        self.clientele: Clientele = build_clientele(size, self.assortment.n_sections)

    def weeks(self) -> Iterator[WeekOfSales]:
        """Let the weeks pass, once: tastes drift and memories fill while they do."""
        size, people = self.size, self.clientele
        demand = Demand(size, self.assortment)
        visits = open_visits(size, people)
        kept_CK = np.full((len(people), N_KEPT), -1, dtype=np.int32)
        baskets = Baskets(self.assortment, people, kept_CK)
        last_day = (size.until - EPOCH).days
        for week in range(size.weeks):
            if (size.first_day + timedelta(days=7 * week)) > size.until:
                return
            self._drift(week)
            sales = self._week(week, demand, visits, baskets)
            if sales.day_R[-1:].max(initial=0) > last_day:
                kept = sales.day_R <= last_day
                sales = WeekOfSales(
                    sales.customer_R[kept],
                    sales.article_R[kept],
                    sales.day_R[kept],
                    sales.price_R[kept],
                    sales.channel_R[kept],
                )
            yield sales

    def _week(self, week: int, demand: Demand, visits: Visits, baskets: Baskets) -> WeekOfSales:
        wanted = demand.week(week)
        rng = stream(self.size.seed, "sales", week)
        n_visits_C = visits.count(rng, week, wanted.volume)
        came = np.flatnonzero(n_visits_C).astype(np.int32)
        customer_O = np.repeat(came, n_visits_C[came])
        day_bounds = np.cumsum(wanted.day_pull)
        day_O = np.searchsorted(day_bounds, rng.random(len(customer_O)) * day_bounds[-1], side="right").clip(max=6)
        order = np.lexsort((customer_O, day_O))
        customer_O, day_O = customer_O[order], day_O[order].astype(np.int32)
        size_O = draw_basket_sizes(rng, self.clientele.basket_C[customer_O])
        order_R, article_R = baskets.fill(rng, wanted, customer_O, size_O)
        customer_R = customer_O[order_R]
        baskets.remember(customer_R, article_R)
        price_R = wanted.price_A[article_R]
        member_O = rng.random(len(customer_O)) < MEMBER_DISCOUNT_SHARE
        price_R = np.where(member_O[order_R], price_R * MEMBER_DISCOUNT, price_R)
        channel_O = 1 + (rng.random(len(customer_O)) < self.clientele.online_C[customer_O]).astype(np.int8)
        first_day = (self.size.first_day - EPOCH).days + 7 * week
        return WeekOfSales(customer_R, article_R, first_day + day_O[order_R], price_R, channel_O[order_R])

    def _drift(self, week: int) -> None:
        """Move the taste of this week's thirteenth of the customers; sections move with it, the dearest least."""
        people, n = self.clientele, len(self.clientele)
        turn = week % DRIFT_WEEKS
        block = slice(n * turn // DRIFT_WEEKS, n * (turn + 1) // DRIFT_WEEKS)
        rng = stream(self.size.seed, "drift", week)
        style = people.style_CD[block].astype(np.float64)
        people.style_CD[block] = unit_vectors(style + DRIFT * rng.standard_normal(style.shape))
        for position, chance in enumerate(REDRAWN_FAVOURITES):
            drawn = draw_sections(rng, people.home_C[block], self.assortment.n_sections, stay=0.7)
            moves = rng.random(len(drawn)) < chance
            column = people.favourites_CF[block, position]
            column[moves] = drawn[moves]


def customer_ids(size: ShopSize) -> pa.StringArray:
    """The customers' 64-character ids, ascending, without a Python string for any of them."""
    rng = stream(size.seed, "customer ids")
    n = size.customers
    raw = rng.integers(0, 256, (n, 32), dtype=np.uint8)
    first_bytes = np.sort(rng.integers(0, 2**64, n, dtype=np.uint64))
    raw[:, :8] = first_bytes.astype(">u8").view(np.uint8).reshape(n, 8)
    return hex_strings(raw)


def hex_strings(raw_NB: NDArray[np.uint8]) -> pa.StringArray:
    """Write each row of bytes as a string of hexadecimal digits."""
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    text = np.empty((len(raw_NB), raw_NB.shape[1], 2), dtype=np.uint8)
    text[:, :, 0], text[:, :, 1] = digits[raw_NB >> 4], digits[raw_NB & 15]
    return _fixed_width_strings(text.reshape(len(raw_NB), -1))


def article_ids(assortment: Assortment) -> pa.StringArray:
    """The articles' ids: ten digits, the first a zero."""
    powers = 10 ** np.arange(9, -1, -1)
    return _fixed_width_strings((assortment.number_A[:, None] // powers % 10 + ord("0")).astype(np.uint8))


def _fixed_width_strings(text_NW: NDArray[np.uint8]) -> pa.StringArray:
    n, width = text_NW.shape
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(width)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text_NW)))
