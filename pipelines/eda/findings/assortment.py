"""What stands out among the articles: tail, life, what the label window holds."""

import datetime as dt

from pipelines.eda.findings.observation import Observation
from pipelines.eda.statistics import Statistics, records
from pipelines.report.numbers import count, percent, plural, weekday_and_day

MIN_ARTICLES = 100  # below, a tenth or a hundredth of them says nothing
HOARDERS = 4  # so few customers make no best-seller


def long_tail(statistics: Statistics) -> list[Observation]:
    """Say how concentrated sales are, how thin popularity is, and who distorts it."""
    figures = statistics.figures
    found = []
    once = figures["share_articles_sold_once"]
    if isinstance(once, float) and once >= 0.35:
        found.append(
            Observation(
                "popularity_is_thin",
                "warning",
                f"{percent(once)} of the articles that sold at all sold only once.",
                "Popularity counted here is noisy; categories and product families say more than single articles.",
            )
        )
    top = figures["share_sales_of_top_10_percent"]
    if isinstance(top, float) and statistics.number("n_articles_sold") >= MIN_ARTICLES:
        found.append(
            Observation(
                "concentration",
                "note",
                f"A tenth of the articles makes {percent(top)} of the sales.",
                f"The top hundredth makes {percent(statistics.number('share_sales_of_top_1_percent'))}; "
                f"{count(statistics.number('n_articles_sold_last_28_days'))} of "
                f"{plural(statistics.number('n_articles'), 'article')} sold in the last four weeks.",
            )
        )
    hoarded = statistics.tables["top_articles"]
    hoarded = hoarded[(hoarded["n_transactions"] >= 20) & (hoarded["n_customers"] <= HOARDERS)]
    for article in records(hoarded.head(2)):
        found.append(
            Observation(
                "hoarded_article",
                "warning",
                f"{article.prod_name} ({article.article_id}) is a best-seller through "
                f"{plural(article.n_customers, 'customer')} only.",
                f"{plural(article.n_transactions, 'purchase')} in all: its popularity does not speak for others.",
            )
        )
    return found


def article_life(statistics: Statistics) -> list[Observation]:
    """Say how fast an article's sales are made."""
    curve = statistics.tables["life_curve"]
    if curve.empty or curve["n_transactions"].sum() < 200:
        return []
    week = int(curve.loc[curve["cumulated_share"] >= 0.5, "week"].iloc[0])
    return [
        Observation(
            "article_life",
            "note",
            f"Half of what an article sells in its first half-year is sold by week {week}.",
            "Rank what sold lately; old sales count little.",
        )
    ]


def new_articles(statistics: Statistics) -> list[Observation]:
    """Say how much of the label window no seen article can reach."""
    figures = statistics.figures
    new, rows = figures["share_label_new_articles"], figures["n_label_rows"]
    if not isinstance(new, float) or new < 0.02:
        return []
    end = dt.date.fromisoformat(str(figures["cutoff_date"])) + dt.timedelta(
        days=int(statistics.split["horizon_days"]) - 1
    )
    return [
        Observation(
            "new_articles_in_label_window",
            "warning" if new >= 0.2 else "note",
            f"{percent(new)} of what was bought in the label window had never been sold before the cutoff.",
            f"{plural(float(rows or 0), 'purchase')} until {weekday_and_day(end)}. A model that ranks only what it has "
            "seen sold cannot reach these.",
        )
    ]
