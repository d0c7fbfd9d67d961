"""Fixed bins, the same in every run, so that today's counts compare with those of last year."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Bins:
    """Half-open bins: value v falls into labels[i] when starts[i] <= v < starts[i + 1]; the last has no end."""

    starts: tuple[float, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.starts) != len(self.labels):
            raise ValueError(f"{len(self.starts)} starts for {len(self.labels)} labels; give one each")

    def codes(self, values: NDArray[Any]) -> IntArray:
        """Number the bin of each value; values below the first start count to it."""
        return np.maximum(np.searchsorted(self.starts, values, side="right") - 1, 0)

    def count(self, values: NDArray[Any], weights: NDArray[Any] | None = None) -> NDArray[Any]:
        return np.bincount(self.codes(values), weights=weights, minlength=len(self.labels))


def _ranges(starts: tuple[int, ...], unit: str = "") -> Bins:
    labels = []
    for start, end in zip(starts, (*starts[1:], None), strict=True):
        text = f"{start}+" if end is None else str(start) if end - start == 1 else f"{start}–{end - 1}"
        labels.append(text + unit)
    return Bins(starts, tuple(labels))


AGE_YEARS = Bins(
    (-1, 0, 20, 25, 30, 35, 40, 45, 50, 55, 60, 70),
    (UNKNOWN, "under 20", *(f"{age}–{age + 4}" for age in range(20, 60, 5)), "60–69", "70+"),
)
BASKET_ITEMS = _ranges((1, 2, 3, 4, 5, 6, 8, 11, 21))
PURCHASES = _ranges((1, 2, 3, 5, 10, 20, 50, 100, 200, 500))
SOLD_PER_ARTICLE = _ranges((0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000))
DAYS_AGO = Bins(
    (0, 8, 15, 29, 57, 92, 183, 366),
    ("up to 1 week", "1–2 weeks", "2–4 weeks", "4–8 weeks", "8–13 weeks", "3–6 months", "6–12 months", "over a year"),
)
ARTICLE_AGE_WEEKS = Bins(
    (0, 1, 2, 4, 8, 13, 26, 52),
    ("1st week", "2nd week", "weeks 3–4", "weeks 5–8", "weeks 9–13", "weeks 14–26", "weeks 27–52", "over a year"),
)
# An article first sold within four weeks of the first day may be older than the data: its age is not known.
LAUNCH_MARGIN_DAYS = 28
LIFETIME_WEEKS = Bins(
    (0, 1, 2, 4, 8, 13, 26, 39, 52, 78),
    ("1", "2", "3–4", "5–8", "9–13", "14–26", "27–39", "40–52", "53–78", "79+"),
)

# Prices differ by shop in unit and scale, so their bins are logarithmic: 100 a decade (2.3 % wide) for quantiles.
PRICE_BINS_PER_DECADE = 100
PRICE_LOWEST, PRICE_HIGHEST = 1e-5, 1e9
N_PRICE_BINS = 1 + PRICE_BINS_PER_DECADE * 14  # the first is a price of zero


def price_codes(price: NDArray[Any]) -> IntArray:
    """Number the logarithmic bin of each price; 0 is for a price of zero."""
    positive = np.clip(price, PRICE_LOWEST, PRICE_HIGHEST * 0.999).astype(np.float64)
    codes = 1 + np.floor((np.log10(positive) - np.log10(PRICE_LOWEST)) * PRICE_BINS_PER_DECADE + 1e-9).astype(np.int64)
    return np.where(price > 0, codes, 0)


def price_of_bin(code: NDArray[Any] | float) -> NDArray[np.float64]:
    """Give the lower end of a bin; halves are geometric means."""
    power = np.log10(PRICE_LOWEST) + (np.asarray(code, np.float64) - 1) / PRICE_BINS_PER_DECADE
    return np.where(np.asarray(code) < 1, 0.0, 10.0**power)


def price_quantile(counts: NDArray[Any], share: float) -> float:
    """Read a quantile off binned prices (to about 1 %); nan when there are none."""
    total = counts.sum()
    if total == 0:
        return float("nan")
    reached = np.cumsum(counts)
    code = int(np.searchsorted(reached, share * total, side="left"))
    code = min(max(code, int(np.flatnonzero(counts)[0])), len(counts) - 1)
    return 0.0 if code == 0 else float(price_of_bin(code + 0.5))
