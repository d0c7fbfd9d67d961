"""Who comes when: new, loyal, dormant and lost customers, and how many visits they pay in a week.

Legend: C customers, O orders.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.data.synthetic.chance import Bytes, Floats, stream
from pipelines.data.synthetic.clientele import Clientele
from pipelines.data.synthetic.size import ShopSize

PILOT_CUSTOMERS = 20_000
LONGEST_MEMORY_WEEKS = 60
# A purchase makes the next one likelier for some weeks; whoever has been away long comes half as often.
RECENCY_PULL = (0.5 + 1.8 * np.exp(-np.arange(LONGEST_MEMORY_WEEKS + 1) / 4)).astype(np.float32)
MEAN_BASKET_EXTRA = 2.3
LARGEST_BASKET = 60


@dataclass(slots=True)
class Visits:
    """Draw each week's visits in order of weeks; remembers when each customer last came."""

    clientele: Clientele
    pace_C: Floats
    last_visit_C: NDArray[np.int16]

    def count(self, rng: np.random.Generator, week: int, volume: float) -> Bytes:
        """Number of visits of each customer in this week, at most 3; the first visit happens in the first week."""
        people = self.clientele
        away_C = np.minimum(week - self.last_visit_C, LONGEST_MEMORY_WEEKS)
        pace_C = self.pace_C * RECENCY_PULL[away_C] * np.float32(volume)
        u_C = rng.random(len(people), dtype=np.float32)
        # Poisson by inversion; the thresholds are whole 2^-24ths, so that a last bit in exp() decides nothing.
        none_C = np.rint(np.exp(-pace_C) * np.float32(2**24)) * np.float32(2**-24)
        n_C: Bytes = (u_C >= none_C).astype(np.uint8)
        several = np.flatnonzero(n_C)
        again = none_C[several] * (1 + pace_C[several])
        n_C[several] += (u_C[several] >= again).astype(np.uint8)
        n_C[several] += (u_C[several] >= again + none_C[several] * pace_C[several] ** 2 / 2).astype(np.uint8)
        n_C[(week < people.first_week_C) | (week > people.last_week_C)] = 0
        n_C[people.first_week_C == week] |= 1
        self.last_visit_C[n_C > 0] = week
        return n_C


def draw_basket_sizes(rng: np.random.Generator, basket_O: Floats) -> NDArray[np.int64]:
    """Rows of each order: one and, with a long tail, more."""
    extra = rng.standard_exponential(len(basket_O), dtype=np.float32) * basket_O * np.float32(MEAN_BASKET_EXTRA)
    return 1 + np.minimum(extra.astype(np.int64), LARGEST_BASKET - 1)


def open_visits(size: ShopSize, clientele: Clientele) -> Visits:
    """Set everyone's pace so that the shop sells about as much as it should, by a pilot of some of its customers."""
    pilot_size = min(len(clientele), PILOT_CUSTOMERS)
    pilot = _first_customers(clientele, pilot_size)
    target = size.n_transactions * pilot_size / len(clientele)
    # New customers each start with one visit: pace carries the rest. Four rounds bring the pilot within a percent.
    scale = 0.05
    for _ in range(6):
        visits = Visits(pilot, pilot.pace_C * np.float32(scale), np.full(pilot_size, -LONGEST_MEMORY_WEEKS, np.int16))
        rows = 0.0
        for week in range(size.weeks):
            rng = stream(size.seed, "pilot", week)
            came = np.repeat(np.arange(pilot_size), visits.count(rng, week, 1.0))
            rows += float(draw_basket_sizes(rng, pilot.basket_C[came]).sum())
        scale = float(np.clip(scale * (target / max(rows, 1)) ** 1.1, 1e-4, 20))
    return Visits(
        clientele,
        clientele.pace_C * np.float32(round(scale, 6)),
        np.full(len(clientele), -LONGEST_MEMORY_WEEKS, dtype=np.int16),
    )


def _first_customers(clientele: Clientele, n: int) -> Clientele:
    columns = {name: getattr(clientele, name)[:n] for name in Clientele.__slots__}
    return Clientele(**columns)
