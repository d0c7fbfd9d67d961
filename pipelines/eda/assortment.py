"""Articles: categories, the long tail, coverage, and how long an article lives."""

import numpy as np
import pandas as pd
import polars as pl

from pipelines.eda.bins import ARTICLE_AGE_WEEKS, LAUNCH_MARGIN_DAYS, LIFETIME_WEEKS, SOLD_PER_ARTICLE
from pipelines.eda.dataset import ARTICLE_ATTRIBUTES, Dataset
from pipelines.eda.tallies import Tallies

Tables = dict[str, pd.DataFrame]
N_TOP_ARTICLES = 15
N_TOP_VALUES = 15
LIFE_CURVE_WEEKS = 26
LIVE_DAYS = (7, 14, 28, 91)


def assortment_tables(dataset: Dataset, t: Tallies) -> Tables:
    return {
        "categories": _categories(dataset, t),
        "sold_per_article": _sold_per_article(t),
        "concentration": _concentration(t),
        "top_articles": _top_articles(dataset, t),
        "article_ages": _article_ages(dataset, t),
        "lifetimes": _lifetimes(dataset, t),
        "life_curve": _life_curve(dataset, t),
        "reach": _reach(dataset, t),
    }


def _categories(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    """The best-selling values of each attribute, with their share of the last four weeks beside it."""
    frames = []
    for name in ARTICLE_ATTRIBUTES:
        coded = dataset.article_attributes[name]
        if not coded.is_informative:
            continue
        frame = pd.DataFrame(
            {
                "attribute": name,
                "value": coded.labels,
                "n_transactions": np.bincount(coded.codes, weights=t.by_article).astype(np.int64),
                "n_recent": np.bincount(coded.codes, weights=t.recent_by_article).astype(np.int64),
                "n_articles": np.bincount(coded.codes),
                "n_articles_sold": np.bincount(coded.codes, weights=t.by_article > 0).astype(np.int64),
                "revenue": np.bincount(coded.codes, weights=t.revenue_by_article),
            }
        )
        frame["share"] = frame["n_transactions"] / max(1, frame["n_transactions"].sum())
        frame["share_recent"] = frame["n_recent"] / max(1, frame["n_recent"].sum())
        frames.append(frame.sort_values("n_transactions", ascending=False, kind="stable").head(N_TOP_VALUES))
    if not frames:
        return pd.DataFrame(columns=["attribute", "value", "n_transactions", "share", "share_recent"])
    return pd.concat(frames, ignore_index=True)


def _sold_per_article(t: Tallies) -> pd.DataFrame:
    """Articles, and the sales they make, by how often each was sold. Never sold counts too."""
    return pd.DataFrame(
        {
            "times_sold": list(SOLD_PER_ARTICLE.labels),
            "n_articles": SOLD_PER_ARTICLE.count(t.by_article),
            "n_transactions": SOLD_PER_ARTICLE.count(t.by_article, t.by_article).astype(np.int64),
        }
    )


def _concentration(t: Tallies) -> pd.DataFrame:
    """Cumulated share of sales over the share of articles sold at all, best-sellers first."""
    sold = np.sort(t.by_article[t.by_article > 0])[::-1]
    if sold.size == 0:
        return pd.DataFrame({"share_of_articles": [0.0], "share_of_sales": [0.0]})
    shares = np.unique(np.concatenate([[0.0], np.geomspace(0.001, 1.0, 40), np.linspace(0.05, 1.0, 20)]))
    cumulated = np.concatenate([[0], np.cumsum(sold)]) / sold.sum()
    return pd.DataFrame(
        {
            "share_of_articles": shares,
            "share_of_sales": np.interp(shares * sold.size, np.arange(sold.size + 1), cumulated),
        }
    )


def _top_articles(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    """Best-sellers of the last four weeks before the cutoff, ties by article_index."""
    top = np.argsort(-t.recent_by_article, kind="stable")[:N_TOP_ARTICLES]
    top = top[t.recent_by_article[top] > 0]
    names = (
        pl.scan_parquet(dataset.articles)
        .filter(pl.col("article_index").is_in(top.tolist()))
        .select("article_index", "article_id", "prod_name", "product_type", "colour_group")
        .collect()
        .to_dict(as_series=False)
    )
    frame = pd.DataFrame(names).set_index("article_index").reindex(top)
    frame["n_recent"] = t.recent_by_article[top]
    frame["n_transactions"] = t.by_article[top]
    frame["n_customers"] = t.customers_by_article[top]
    frame["mean_price"] = t.revenue_by_article[top] / np.maximum(1, t.by_article[top])
    frame["first_sold"] = [dataset.calendar.date(int(day)).isoformat() for day in t.first_day_of_article[top]]
    return frame.reset_index(drop=True)


def _article_ages(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    """Share of the last four weeks' sales by the age of the article, against the share of live articles."""
    recent = t.windows.counts["article_age"][0]
    calendar = dataset.calendar
    is_live = t.last_day_of_article >= max(0, calendar.n_days - 28)
    ages = (calendar.n_days - 1 - t.first_day_of_article[is_live]) // 7
    articles = ARTICLE_AGE_WEEKS.count(ages)
    return pd.DataFrame(
        {
            "age": list(ARTICLE_AGE_WEEKS.labels),
            "n_transactions": recent,
            "share_of_sales": recent / max(1, recent.sum()),
            "n_articles": articles,
            "share_of_articles": articles / max(1, articles.sum()),
        }
    )


def _lifetimes(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    """Weeks from first to last sale of the articles that came and went within the data (sold at least twice)."""
    last = dataset.calendar.n_days - 1
    came = t.first_day_of_article >= LAUNCH_MARGIN_DAYS
    went = t.last_day_of_article < last - LAUNCH_MARGIN_DAYS
    whole = came & went & (t.by_article >= 2)
    weeks = (t.last_day_of_article[whole] - t.first_day_of_article[whole]) // 7
    return pd.DataFrame({"weeks": list(LIFETIME_WEEKS.labels), "n_articles": LIFETIME_WEEKS.count(weeks)})


def _life_curve(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    """Sales by week since launch: launches whose first 26 weeks are in the data, articles sold ten times or more."""
    first = -(-LAUNCH_MARGIN_DAYS // 7)
    last = dataset.calendar.n_days // 7 - LIFE_CURVE_WEEKS
    counts = t.by_launch_week_and_age[first:last, :LIFE_CURVE_WEEKS].sum(axis=0) if last > first else np.zeros(0)
    frame = pd.DataFrame({"week": np.arange(1, counts.size + 1), "n_transactions": counts.astype(np.int64)})
    total = max(1, int(counts.sum()))
    frame["share"] = frame["n_transactions"] / total
    frame["cumulated_share"] = frame["n_transactions"].cumsum() / total
    return frame


def _reach(dataset: Dataset, t: Tallies) -> pd.DataFrame:
    """How much of the label window a recommender can reach that ranks only what sold in the last days of history."""
    calendar = dataset.calendar
    bought = t.label_by_article
    total = max(1, int(bought.sum()))
    rows = []
    for days in LIVE_DAYS:
        is_live = t.last_day_before_cutoff >= max(0, calendar.cutoff_day - days)
        rows.append((f"sold in the last {days} days", int(is_live.sum()), int(bought[is_live].sum()) / total))
    known = t.last_day_before_cutoff >= 0
    rows.append(("ever sold before the cutoff", int(known.sum()), int(bought[known].sum()) / total))
    return pd.DataFrame(rows, columns=["articles", "n_articles", "share_of_label_sales"])
