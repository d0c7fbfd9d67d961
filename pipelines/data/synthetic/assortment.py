"""The assortment: products in colours, each with attributes, a life cycle, a season, and the looks it belongs to.

Legend: A articles, P products, D dimensions of style.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.data.synthetic.chance import Bools, Bytes, Floats, Ints, draw_from, stream, unit_vectors
from pipelines.data.synthetic.size import ShopSize
from pipelines.data.synthetic.vocabulary import COLOURS, GRAPHICAL_APPEARANCES, PRICE_POINTS, PRODUCT_TYPES, SECTIONS

N_STYLE = 4
ARTICLES_PER_SECTION = 100  # fewer and a section has too few live articles to choose from
MIN_SECTIONS = 8  # the first eight cover every index group
LOOK_PRODUCTS = 5
BASIC_SHARE = 0.12
COMEBACK_SHARE = 0.25
HOME_GROUPS = (1, 2, 3, 4, 26)  # index_group numbers in the order of HOME_SHARES' columns


@dataclass(frozen=True, slots=True)
class Assortment:
    """Columns over articles, in order of article_id; a product's articles and a look's products lie together."""

    number_A: NDArray[np.int64]
    """article_id as a number"""
    product_A: Ints
    section_A: Bytes
    department_A: Ints
    type_A: Bytes
    colour_A: Bytes
    appearance_A: Bytes
    style_AD: Floats
    price_A: Floats
    """launch price in the shop's currency"""
    price_z_A: Floats
    """how dear for its product type, about −2 to 2"""
    launch_A: Floats
    """week of launch; below 0 = before the first week"""
    life_A: Floats
    """weeks on sale"""
    comes_back_A: Bools
    popularity_A: Floats
    variants_start_A: Ints
    variants_count_A: Ints
    look_start_A: Ints
    look_count_A: Ints
    look_members: Ints
    """article positions, look by look; look_start and look_count point into it"""
    n_sections: int

    def __len__(self) -> int:
        return len(self.number_A)


def build_assortment(size: ShopSize) -> Assortment:
    rng = stream(size.seed, "assortment")
    n_articles = size.n_articles
    n_sections = int(np.clip(n_articles // ARTICLES_PER_SECTION, MIN_SECTIONS, len(SECTIONS)))
    product_A = _share_out(rng, n_articles)
    n_products = int(product_A[-1]) + 1

    life_P = np.exp(rng.normal(np.log(16), 0.6, n_products)).clip(3, 60)
    basic_P = rng.random(n_products) < BASIC_SHARE
    life_P[basic_P] = rng.uniform(80, 200, basic_P.sum())
    # Launches are spread evenly from one life before the first week; product codes rise with them.
    launch_P = np.sort(rng.uniform(-20, size.weeks - 0.5, n_products))
    launch_P[basic_P] -= rng.uniform(0, 100, basic_P.sum())

    section_P = draw_from(rng, np.array([section.weight for section in SECTIONS[:n_sections]]), n_products)
    type_P, department_P, style_department = _departments(rng, section_P)
    _align_launch_with_season(rng, launch_P, type_P, basic_P)
    style_PD = unit_vectors(0.75 * style_department + 0.5 * unit_vectors(rng.standard_normal((n_products, N_STYLE))))
    medians = np.array([product_type.price for product_type in PRODUCT_TYPES])[type_P]
    price_z_P = rng.standard_normal(n_products)
    points = np.array(PRICE_POINTS)
    price_P = points[np.abs(np.log(points)[None] - np.log(medians * np.exp(0.35 * price_z_P))[:, None]).argmin(axis=1)]
    appearance_P = draw_from(rng, np.array([share for *_, share in GRAPHICAL_APPEARANCES]), n_products)
    appearance_P[np.char.find(np.array([t.garment_group[1] for t in PRODUCT_TYPES]), "Denim")[type_P] >= 0] = 4
    popularity_P = np.exp(rng.normal(0, 0.7, n_products))
    codes_P = np.sort(rng.choice(np.arange(108_000, 960_000), n_products, replace=False))

    variant_A = np.arange(n_articles) - np.searchsorted(product_A, product_A, side="left")
    colour_A = _colours(rng, product_A, variant_A)
    colour_pull = np.array([colour.weight for colour in COLOURS]) ** 0.3
    look_P = _looks(section_P, style_PD, launch_P)
    members = np.argsort(look_P[product_A], kind="stable")
    look_bounds = np.searchsorted(look_P[product_A][members], np.arange(look_P.max() + 2))
    first_A = np.searchsorted(product_A, np.arange(n_products + 1))
    return Assortment(
        number_A=codes_P[product_A] * 1000 + 1 + variant_A,
        product_A=product_A.astype(np.int32),
        section_A=section_P[product_A].astype(np.uint8),
        department_A=department_P[product_A].astype(np.int32),
        type_A=type_P[product_A].astype(np.uint8),
        colour_A=colour_A.astype(np.uint8),
        appearance_A=appearance_P[product_A].astype(np.uint8),
        style_AD=style_PD[product_A].astype(np.float32),
        price_A=price_P[product_A].astype(np.float32),
        price_z_A=price_z_P[product_A].astype(np.float32),
        launch_A=(launch_P[product_A] + 2.0 * variant_A * rng.random(n_articles)).astype(np.float32),
        life_A=life_P[product_A].astype(np.float32),
        comes_back_A=(rng.random(n_products) < COMEBACK_SHARE)[product_A],
        popularity_A=(popularity_P[product_A] * colour_pull[colour_A] * np.exp(rng.normal(0, 0.3, n_articles))).astype(
            np.float32
        ),
        variants_start_A=first_A[product_A].astype(np.int32),
        variants_count_A=np.diff(first_A)[product_A].astype(np.int32),
        look_start_A=look_bounds[look_P[product_A]].astype(np.int32),
        look_count_A=np.diff(look_bounds)[look_P[product_A]].astype(np.int32),
        look_members=members.astype(np.int32),
        n_sections=n_sections,
    )


def _share_out(rng: np.random.Generator, n_articles: int) -> NDArray[np.int64]:
    """Give each article its product: about 2.2 colours a product, many with one, few with a dozen."""
    n_colours = rng.geometric(1 / 2.2, n_articles).clip(1, len(COLOURS))
    return np.repeat(np.arange(n_articles), n_colours)[:n_articles]


def _departments(
    rng: np.random.Generator, section_P: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Give each product a type that its section carries and a department; return also the department's style."""
    type_numbers = {product_type.name: position for position, product_type in enumerate(PRODUCT_TYPES)}
    type_P = np.empty(len(section_P), dtype=np.int64)
    for position, section in enumerate(SECTIONS):
        here = np.flatnonzero(section_P == position)
        carried = np.array([type_numbers[name] for name in section.product_types])
        # The first types of a section are its core.
        type_P[here] = carried[draw_from(rng, np.arange(1.0, len(carried) + 1) ** -0.6, len(here))]
    department_P = 4 * section_P + draw_from(rng, np.array([0.4, 0.3, 0.2, 0.1]), len(section_P))
    styles = unit_vectors(rng.standard_normal((4 * len(SECTIONS), N_STYLE)))
    return type_P, department_P, styles[department_P]


def _align_launch_with_season(
    rng: np.random.Generator, launch_P: NDArray[np.float64], type_P: NDArray[np.int64], basic_P: Bools
) -> None:
    """Move most seasonal products' launches to the weeks before their best ones."""
    best_week_P = np.array([product_type.best_week for product_type in PRODUCT_TYPES])[type_P]
    seasonal_P = (best_week_P > 0) & ~basic_P & (rng.random(len(type_P)) < 0.7)
    ahead_P = rng.normal(6, 4, len(type_P))
    offset_P = (best_week_P - ahead_P - (launch_P + 38)) % 52  # the first week is the 38th of its year
    launch_P[seasonal_P] += np.where(offset_P > 26, offset_P - 52, offset_P)[seasonal_P]


def _colours(rng: np.random.Generator, product_A: NDArray[np.int64], variant_A: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the variants of a product distinct colours, the common ones first more often than not."""
    n_products = int(product_A[-1]) + 1
    weights = np.array([colour.weight for colour in COLOURS])
    # Sorting by -log(u)/weight draws without replacement in proportion to weight (Efraimidis and Spirakis, 2006).
    order = np.argsort(-np.log(rng.random((n_products, len(COLOURS)))) / weights, axis=1, kind="stable")
    return order[product_A, variant_A % len(COLOURS)]


def _looks(
    section_P: NDArray[np.int64], style_PD: NDArray[np.float64], launch_P: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Group products of one part of the shop, of like style and launched together, into looks worn together."""
    group_P = np.array([HOME_GROUPS.index(section.index_group[0]) for section in SECTIONS])[section_P]
    side_P = 2 * (style_PD[:, 0] > 0) + (style_PD[:, 1] > 0)
    order = np.lexsort((launch_P, side_P, group_P))
    cell = (4 * group_P + side_P)[order]
    starts = np.searchsorted(cell, cell, side="left")
    look = (np.arange(len(order)) - starts) // LOOK_PRODUCTS
    new_look = np.concatenate([[0], np.cumsum((np.diff(look) != 0) | (np.diff(cell) != 0))])
    look_P = np.empty(len(order), dtype=np.int64)
    look_P[order] = new_look
    return look_P
