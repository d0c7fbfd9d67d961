"""What stands out among the customers."""

from pipelines.eda.findings.observation import Observation
from pipelines.eda.statistics import Statistics
from pipelines.report.numbers import decimal, percent, plural

LARGE_SHARE = 0.05
"""Of all purchases; a customer with so many, and OUTSTANDING times the mean, is hardly one person."""
OUTSTANDING = 50.0


def customers(statistics: Statistics) -> list[Observation]:
    """Lapsed customers, repurchase, missing ages, huge customers and baskets, channels."""
    figures = statistics.figures
    found = []
    lapsed = figures["share_customers_lapsed_13_weeks"]
    if isinstance(lapsed, float) and lapsed >= 0.3:
        found.append(
            Observation(
                "lapsed_customers",
                "note",
                f"{percent(lapsed)} of the customers bought nothing in the 13 weeks before the cutoff.",
                "They need a good answer from their segment rather than from their history.",
            )
        )
    repeat = figures["share_repeat"]
    if isinstance(repeat, float) and repeat > 0:
        days = figures["median_days_to_repurchase"]
        found.append(
            Observation(
                "repurchase",
                "note",
                f"{percent(repeat)} of purchases are of an article that the customer had bought before.",
                f"Half of them come within {plural(float(days or 0), 'day')}; counting other colours of the product "
                f"it is {percent(statistics.number('share_product_repeat'))}.",
            )
        )
    known = figures["share_age_known"]
    if isinstance(known, float) and known < 0.9:
        found.append(
            Observation(
                "ages_missing",
                "warning",
                f"Age is unknown for {percent(1 - known)} of the customers.",
                "Age segments do not cover them.",
            )
        )
    share = statistics.number("share_sales_of_largest_customer")
    if share >= LARGE_SHARE and share * statistics.number("n_buying_customers") >= OUTSTANDING:
        found.append(
            Observation(
                "largest_customer",
                "warning",
                f"{percent(share)} of all purchases are of one customer.",
                "Tills that book everybody unknown under one id look like this. The model takes them for one person, "
                "and this person's purchases for what everybody likes: leave such an id out of the source.",
            )
        )
    largest, usual = figures["largest_basket_items"], figures["items_per_basket"]
    if isinstance(largest, int) and isinstance(usual, float) and largest >= 50:
        found.append(
            Observation(
                "largest_basket",
                "note",
                f"The largest basket holds {plural(largest, 'article')}, the mean one {decimal(usual, 2)}.",
                "A reseller or a shop account would look like this.",
            )
        )
    if figures["n_channels"] == 1:
        found.append(Observation("single_channel", "note", "All purchases went through one channel.", ""))
    return found
