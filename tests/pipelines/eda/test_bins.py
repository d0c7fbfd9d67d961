import numpy as np
import pytest

from pipelines.eda.bins import AGE_YEARS, BASKET_ITEMS, DAYS_AGO, N_PRICE_BINS, Bins, price_codes, price_quantile
from pipelines.eda.windows import coarse_price, price_labels


@pytest.mark.parametrize(
    ("bins", "value", "label"),
    [
        (AGE_YEARS, -1, "unknown"),
        (AGE_YEARS, 19.9, "under 20"),
        (AGE_YEARS, 20, "20–24"),
        (AGE_YEARS, 99, "70+"),
        (BASKET_ITEMS, 1, "1"),
        (BASKET_ITEMS, 7, "6–7"),
        (BASKET_ITEMS, 400, "21+"),
        (DAYS_AGO, 7, "up to 1 week"),
        (DAYS_AGO, 8, "1–2 weeks"),
        (DAYS_AGO, 91, "8–13 weeks"),
        (DAYS_AGO, 92, "3–6 months"),
    ],
)
def test_bounds_belong_to_the_upper_bin(bins: Bins, value: float, label: str) -> None:
    assert bins.labels[int(bins.codes(np.array([value]))[0])] == label


def test_starts_and_labels_must_match() -> None:
    with pytest.raises(ValueError, match="2 starts for 1 labels"):
        Bins((0, 1), ("a",))


@pytest.mark.parametrize("price", [1e-5, 0.0169, 1.0, 29.99, 1e6])
def test_median_of_one_price_is_that_price(price: float) -> None:
    counts = np.bincount(price_codes(np.array([price])), minlength=N_PRICE_BINS)
    assert price_quantile(counts, 0.5) == pytest.approx(price, rel=0.013)


def test_free_and_absurd_prices_have_a_bin() -> None:
    codes = price_codes(np.array([0.0, 1e-12, 1e12]))
    assert codes.tolist() == [0, 1, N_PRICE_BINS - 1]
    assert price_quantile(np.bincount(codes[:1], minlength=N_PRICE_BINS), 0.5) == 0.0


@pytest.mark.parametrize(
    ("price", "label"),
    [
        (0.0, "free"),
        (0.0169, "from 0.015"),
        (0.03, "from 0.03"),
        (0.0205, "from 0.02"),
        (29.99, "from 20"),
        (70.5, "from 70"),
    ],
)
def test_drift_bins_of_prices_are_round(price: float, label: str) -> None:
    assert price_labels()[int(coarse_price(np.array([price], np.float32).astype(np.float64))[0])] == label


def test_drift_labels_of_prices_are_distinct() -> None:
    assert len(set(price_labels())) == len(price_labels())
