"""How large a synthetic shop is, and the address that says so: synthetic://?customers=2000&seed=7."""

import difflib
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit

from pipelines.errors import UsageError

FULL_CUSTOMERS, FULL_ARTICLES, FULL_TRANSACTIONS = 1_371_980, 105_542, 31_800_000
MIN_ARTICLES = 400  # below this, sections hold too few live articles to choose from
LAST_DAY = date(2020, 9, 22)
SCHEME = "synthetic"


@dataclass(frozen=True, slots=True)
class ShopSize:
    """What a shop is made of. Zero means: as many as a shop with so many customers has."""

    customers: int = 2000
    articles: int = 0
    weeks: int = 105
    transactions: int = 0
    """aimed at; the shop's chance decides, within a few percent"""
    seed: int = 7
    until: date = LAST_DAY
    """last day to emit: an earlier one gives the same shop seen earlier, row for row"""

    def __post_init__(self) -> None:
        problems = [
            f"{name}={value} must be at least {least}"
            for name, value, least in (
                ("customers", self.customers, 1),
                ("articles", self.n_articles, 100),
                ("weeks", self.weeks, 2),
                ("transactions", self.n_transactions, 1),
                ("seed", self.seed, 0),
            )
            if value < least
        ]
        if not self.first_day <= self.until <= LAST_DAY:
            problems.append(f"until={self.until} must lie in {self.first_day} … {LAST_DAY}")
        if problems:
            raise UsageError(f"{SCHEME}:// shop cannot be built: {'; '.join(problems)}")

    @property
    def n_articles(self) -> int:
        # An assortment grows slower than its clientele.
        scaled = round(FULL_ARTICLES * (self.customers / FULL_CUSTOMERS) ** 0.5)
        return self.articles or max(MIN_ARTICLES, scaled)

    @property
    def n_transactions(self) -> int:
        per_week = FULL_TRANSACTIONS / FULL_CUSTOMERS / 105
        return self.transactions or max(1, round(self.customers * per_week * self.weeks))

    @property
    def first_day(self) -> date:
        return LAST_DAY - timedelta(days=7 * self.weeks - 1)

    @property
    def uri(self) -> str:
        """The address with every parameter that differs from its default."""
        given = {name: value for name, value in asdict(self).items() if value != getattr(ShopSize(), name)}
        return f"{SCHEME}://?{urlencode({'customers': self.customers, **given, 'seed': self.seed})}"


def parse_shop_uri(uri: str) -> ShopSize:
    """Read a shop's address; every mistake in it is reported at once.

    >>> parse_shop_uri("synthetic://?customers=200&seed=3").n_articles
    1274
    """
    parts = urlsplit(uri)
    if parts.netloc or parts.path not in ("", "/"):
        raise UsageError(f"source {uri!r}: a shop has no path; write {SCHEME}://?customers=2000&seed=7")
    names = list(asdict(ShopSize()))
    values: dict[str, int | date] = {}
    problems = []
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            problems.append(f"unknown parameter {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))
            continue
        try:
            values[name] = date.fromisoformat(text) if name == "until" else int(text.replace("_", ""))
        except ValueError:
            wanted = "a date YYYY-MM-DD" if name == "until" else "a whole number"
            problems.append(f"{name}={text!r} is not {wanted}")
    if problems:
        raise UsageError(f"source {uri!r}: {'; '.join(problems)}; known are {', '.join(names)}")
    return ShopSize(**values)  # type: ignore[arg-type]
