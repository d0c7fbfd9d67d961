"""What goes into a basket: habits (the same again, another colour, what completes a look) and taste.

Legend: R rows, O orders, C customers, K kept purchases, M articles looked at.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.data.synthetic.assortment import N_STYLE, Assortment
from pipelines.data.synthetic.chance import Bools, Bytes, Floats, Ints
from pipelines.data.synthetic.clientele import Clientele, draw_sections
from pipelines.data.synthetic.demand import SLOTS, WeekDemand
from pipelines.data.synthetic.vocabulary import PRODUCT_TYPES

N_KEPT = 6
N_LOOKED_AT = 4  # a customer takes the most fitting of so many articles met by their popularity
STYLE_PULL, COLOUR_PULL, PATTERN_PULL, PRICE_PULL = 2.0, 0.7, 0.5, 0.5
OWNED_PUSH = 3.0  # what was bought just before is not bought again for its looks
FAVOURITE_SHARES = np.array([0.32, 0.26, 0.22, 0.2])
WINDOW_SHOPPING_SHARE = 0.35  # sections that the season, not the habit, suggests
FORGETTING = 0.5  # of kept purchases, each older one is half as present
# Cumulative shares of what leads to a row; what is left over is taste.
FIRST_ROW_SHARES = {"again": 0.09, "colour": 0.05, "look": 0.08}
NEXT_ROW_SHARES = {"another_size": 0.09, "colour": 0.09, "look": 0.18, "again": 0.02, "same_section": 0.2}


@dataclass(slots=True)
class Baskets:
    """Fill baskets week by week; remembers each customer's last purchases."""

    shop: Assortment
    people: Clientele
    kept_CK: Ints
    """positions of the articles bought last, newest first; -1 = none"""

    def fill(
        self, rng: np.random.Generator, demand: WeekDemand, customer_O: Ints, size_O: NDArray[np.int64]
    ) -> tuple[Ints, Ints]:
        """Return each row's order and article, rows in order of orders."""
        first_O = self._first_articles(rng, demand, customer_O)
        order_R = np.repeat(np.arange(len(customer_O), dtype=np.int32), size_O)
        article_R = first_O[order_R]
        starts_O = np.cumsum(size_O) - size_O
        is_next_R = np.ones(len(order_R), dtype=np.bool_)
        is_next_R[starts_O] = False
        next_R = np.flatnonzero(is_next_R)
        order_N = order_R[next_R]
        article_R[next_R] = self._next_articles(rng, demand, customer_O[order_N], first_O[order_N])
        return order_R, article_R

    def remember(self, customer_R: Ints, article_R: Ints) -> None:
        """Keep the newest purchases of each customer; rows come oldest first."""
        if len(customer_R) == 0:
            return
        order = np.argsort(customer_R, kind="stable")[::-1]
        customer, article = customer_R[order], article_R[order]
        starts = np.flatnonzero(np.concatenate([[True], customer[1:] != customer[:-1]]))
        counts = np.diff(np.concatenate([starts, [len(customer)]]))
        who = customer[starts]
        new_n = np.minimum(counts, N_KEPT)
        before = self.kept_CK[who]
        for n in range(1, N_KEPT + 1):
            here = np.flatnonzero(new_n == n)
            before[here, n:] = before[here, : N_KEPT - n]
            before[here, :n] = article[starts[here][:, None] + np.arange(n)]
        self.kept_CK[who] = before

    def _first_articles(self, rng: np.random.Generator, demand: WeekDemand, customer_O: Ints) -> Ints:
        kept_O = self._recall(rng, customer_O)
        article_O = self._by_taste(rng, demand, customer_O, self._own_sections(rng, demand, customer_O))
        return self._by_habit(rng, demand, FIRST_ROW_SHARES, kept_O, kept_O, article_O)

    def _next_articles(self, rng: np.random.Generator, demand: WeekDemand, customer_N: Ints, first_N: Ints) -> Ints:
        section_N = self._own_sections(rng, demand, customer_N)
        threshold = sum(NEXT_ROW_SHARES.values()) - NEXT_ROW_SHARES["same_section"]
        # Taste rows are shares of what habit leaves over; a share of those stay in the first article's section.
        stays_N = rng.random(len(customer_N)) < NEXT_ROW_SHARES["same_section"] / (1 - threshold)
        section_N = np.where(stays_N, self.shop.section_A[first_N], section_N)
        article_N = self._by_taste(rng, demand, customer_N, section_N)
        habits = {name: share for name, share in NEXT_ROW_SHARES.items() if name != "same_section"}
        return self._by_habit(rng, demand, habits, first_N, self._recall(rng, customer_N), article_N)

    def _recall(self, rng: np.random.Generator, customer_R: Ints) -> Ints:
        """Think of one kept purchase, the newest most likely; -1 = nothing to think of."""
        slot_R = np.minimum(rng.geometric(FORGETTING, len(customer_R)) - 1, N_KEPT - 1)
        kept_R = self.kept_CK[customer_R, slot_R]
        return np.where(kept_R >= 0, kept_R, self.kept_CK[customer_R, 0])

    def _by_habit(
        self,
        rng: np.random.Generator,
        demand: WeekDemand,
        shares: dict[str, float],
        around_R: Ints,
        kept_R: Ints,
        otherwise_R: Ints,
    ) -> Ints:
        """Replace articles by those that habit leads to, where it leads to something on sale."""
        bounds = np.cumsum(list(shares.values()))
        habit_R = np.searchsorted(bounds, rng.random(len(around_R)), side="right")
        article_R = otherwise_R
        for position, name in enumerate(shares):
            here = np.flatnonzero(habit_R == position)
            source = (kept_R if name == "again" else around_R)[here]
            here, source = here[source >= 0], source[source >= 0]
            led_to, wanted = self._lead(rng, name, source)
            wanted &= demand.is_live_A[led_to]
            article_R[here[wanted]] = led_to[wanted]
        return article_R

    def _lead(self, rng: np.random.Generator, habit: str, source: Ints) -> tuple[Ints, Bools]:
        shop = self.shop
        u = rng.random(len(source))
        if habit == "colour":
            led_to = shop.variants_start_A[source] + (u * shop.variants_count_A[source]).astype(np.int32)
            return led_to, led_to != source
        if habit == "look":
            led_to = shop.look_members[shop.look_start_A[source] + (u * shop.look_count_A[source]).astype(np.int32)]
            return led_to, shop.product_A[led_to] != shop.product_A[source]
        if habit == "again":
            return source, u < _REBUY[shop.type_A[source]]
        return source, np.ones(len(source), dtype=np.bool_)

    def _own_sections(self, rng: np.random.Generator, demand: WeekDemand, customer_R: Ints) -> Bytes:
        people = self.people
        favourite_R = np.searchsorted(np.cumsum(FAVOURITE_SHARES)[:-1], rng.random(len(customer_R)))
        own_R = people.favourites_CF[customer_R, favourite_R]
        tempting_R = draw_sections(
            rng, people.home_C[customer_R], self.shop.n_sections, stay=0.5, weights=demand.section_pull_S
        )
        stays_R = rng.random(len(customer_R)) < (1 - WINDOW_SHOPPING_SHARE) * demand.section_season_S[own_R]
        return np.where(stays_R, own_R, tempting_R)

    def _by_taste(self, rng: np.random.Generator, demand: WeekDemand, customer_R: Ints, section_R: Bytes) -> Ints:
        """Let each row's customer look at some articles of the section and take the most fitting."""
        shop, people = self.shop, self.people
        chosen_R = np.empty(len(customer_R), dtype=np.int32)
        best_R = np.full(len(customer_R), -np.inf, dtype=np.float32)
        base_R = section_R.astype(np.int64) * SLOTS
        style_RD, price_z_R = people.style_CD[customer_R], people.price_z_C[customer_R]
        colours_R2, patterned_R = people.colours_C2[customer_R], people.likes_patterns_C[customer_R]
        kept_R3 = self.kept_CK[customer_R, :3]
        for _ in range(N_LOOKED_AT):
            article_R = demand.slots_S[base_R + rng.integers(0, SLOTS, len(customer_R), dtype=np.uint16)]
            style = shop.style_AD[article_R]
            fit_R = style[:, 0] * style_RD[:, 0]
            for d in range(1, N_STYLE):
                fit_R += style[:, d] * style_RD[:, d]
            fit_R *= np.float32(STYLE_PULL)
            colour_R = shop.colour_A[article_R]
            liked_R = (colour_R == colours_R2[:, 0]) | (colour_R == colours_R2[:, 1])
            fit_R += np.float32(COLOUR_PULL) * liked_R
            fit_R += np.float32(PATTERN_PULL) * ((shop.appearance_A[article_R] > 0) == patterned_R)
            fit_R -= np.float32(PRICE_PULL) * np.abs(shop.price_z_A[article_R] - price_z_R)
            for kept_R in kept_R3.T:
                fit_R -= np.float32(OWNED_PUSH) * (article_R == kept_R)
            better_R = fit_R > best_R
            np.copyto(best_R, fit_R, where=better_R)
            np.copyto(chosen_R, article_R, where=better_R)
        return chosen_R


_REBUY: Floats = np.array([product_type.rebuy for product_type in PRODUCT_TYPES], dtype=np.float32)
