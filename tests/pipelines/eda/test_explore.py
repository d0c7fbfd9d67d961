"""The three files of a run, for ordinary shops and odd ones, seen in a real browser."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.eda.explore import explore
from tests.pipelines.data.raw_tables import FIRST_DAY, ShopTables, random_shop
from tests.pipelines.eda.processed_tables import TABLES, process_shop, write_rows

FILES = ("report.html", "statistics.json", "summary.json")
RAW_FACTS = {
    "n_transactions": 420,
    "n_rejected": 2,
    "n_repaired": 1,
    "rejected_by_rule": {"bad date": 2},
    "source": {"uri": "./shop & sons"},
}


def run(
    folder: Path, split: dict[str, Any], *, into: str = "out", previous: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Explore a processed folder; give the facts and the summary."""
    output = folder / into
    output.mkdir()
    gates = [{"gate": "date_gaps", "passed": True, "level": "ok", "value": 0, "threshold": 2, "message": "none"}]
    facts = explore(
        {name: folder / name for name in TABLES},
        output,
        split=split,
        quality_report={"gates": gates},
        raw_facts=RAW_FACTS,
        previous_statistics=previous,
    )
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return facts, summary


@pytest.fixture(scope="module")
def lively_shop() -> ShopTables:
    """Long enough for every figure: a year and a quarter, with all attributes, half of the articles come and go."""
    shop = random_shop(n_days=460, rows_per_day=14, n_customers=60, n_articles=60)
    number = pl.col("article_id").str.slice(2, 6).cast(pl.Int64)
    day = (pl.col("t_dat") - pl.lit(FIRST_DAY)).dt.total_days()
    is_sold = (number < 30) | ((day >= 4 * number) & (day < 4 * number + 180))
    shop = replace(shop, transactions=shop.transactions.filter(is_sold))
    n = pl.int_range(pl.len())
    articles = shop.articles.with_columns(
        *(
            pl.concat_str(pl.lit(f"{name} "), n % 3).alias(name)
            for name in ("product_group_name", "index_group_name", "garment_group_name", "section_name")
        ),
        colour_group_name=pl.concat_str(pl.lit("Colour "), n % 5),
    )
    customers = shop.customers.with_columns(club_member_status=pl.lit("ACTIVE"), fashion_news_frequency=pl.lit("NONE"))
    return replace(shop, articles=articles, customers=customers)


@pytest.fixture(scope="module")
def lively(lively_shop: ShopTables, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("lively")
    split = process_shop(lively_shop, folder)
    run(folder, split)
    return folder, split


FIGURES = [
    "Purchases a day",
    "The years above each other",
    "Customers a week",
    "Share bought online",
    "Weekdays",
    "Who is dressed, by month",
    "Seasons by product group",
    "Prices paid",
    "Mean price by week",
    "Prices by product group",
    "Product groups",
    "Product types",
    "Index groups",
    "Garment groups",
    "Sections",
    "Colours",
    "How much the best-sellers carry",
    "Articles by times sold",
    "Articles on sale, by week",
    "How fast an article sells out its life",
    "How long articles sell",
    "New or old: what sells now",
    "What a recommender can reach",
    "Articles in a basket",
    "Time between visits",
    "Repurchase interval",
    "Bought before by the same customer",
    "How long customers have been away",
    "How much customers buy",
    "Age",
    "Channel by age",
    "What each age buys",
    "Drift per feature",
]


@pytest.mark.browser
@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 1280), (False, 375)])
def test_every_figure_is_drawn(
    lively: tuple[Path, dict[str, Any]], visit: Callable[..., Any], dark: bool, width: int
) -> None:
    seen = visit(lively[0] / "out/report.html", dark=dark, width=width)
    assert seen.state == "ready"
    assert seen.console == []
    assert seen.requests == []
    assert [figure["title"] for figure in seen.figures] == FIGURES
    assert [figure["title"] for figure in seen.figures if figure["marks"] < 1] == []
    assert [figure["title"] for figure in seen.figures if figure["height"] < 100 or figure["width"] < 250] == []
    assert seen.overflow_px <= 0


def test_report_is_small_and_self_contained(lively: tuple[Path, dict[str, Any]]) -> None:
    html = (lively[0] / "out/report.html").read_text(encoding="utf-8")
    assert len(html) < 5_000_000
    assert html.count("window.vegaEmbed=") == 1  # Vega's JavaScript is there once, not once a chart
    assert "./shop &amp; sons" in html


def test_same_data_give_the_same_bytes(lively: tuple[Path, dict[str, Any]]) -> None:
    folder, split = lively
    run(folder, split, into="again")
    for name in FILES:
        assert (folder / "again" / name).read_bytes() == (folder / "out" / name).read_bytes()


def test_row_order_of_the_source_changes_nothing(lively_shop: ShopTables, tmp_path: Path, lively: Any) -> None:
    run(tmp_path, process_shop(lively_shop.shuffled(seed=11), tmp_path))
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (lively[0] / "out" / name).read_bytes()


def test_first_run_says_that_nothing_precedes_it(lively: tuple[Path, dict[str, Any]]) -> None:
    summary = json.loads((lively[0] / "out/summary.json").read_text())
    assert summary["previous"].startswith("There is no previous run")
    assert set(summary["psi"]) == {"before", "year_ago"}


def test_drift_against_the_previous_run_is_measured(lively: tuple[Path, dict[str, Any]]) -> None:
    folder, split = lively
    previous = json.loads((folder / "out/statistics.json").read_text())
    facts, summary = run(folder, split, into="same", previous=previous)
    assert facts["features_moved"] == []
    assert set(summary["psi"]["previous_run"].values()) == {0.0}
    channel = previous["distributions"]["channel"]["recent"]
    channel["Store"], channel["Online"] = 10 * channel["Online"], channel["Store"]
    facts, summary = run(folder, split, into="moved", previous=previous)
    assert facts["features_moved"] == ["channel"]
    assert "drift_previous_run" in {observation["kind"] for observation in summary["observations"]}


def test_statistics_of_another_format_are_not_compared(lively: tuple[Path, dict[str, Any]]) -> None:
    folder, split = lively
    _, summary = run(folder, split, into="other", previous={"schema_version": 0})
    assert "another format" in summary["previous"]
    assert "previous_run" not in summary["psi"]


def tiny_rows(n_days: int, channel: int | None = None) -> list[tuple[int, int, int, float, int]]:
    return [(day % 3, day, day % 4, 1.0 + day % 2, channel or 1 + day % 2) for day in range(n_days)]


ODD_SHOPS: dict[str, tuple[list[tuple[int, int, int, float, int]], dict[str, Any]]] = {
    "a single week": (tiny_rows(8), {"n_days": 8, "ages": [20.0, 30.0, 40.0]}),
    "two days": ([(0, 0, 0, 1.0, 1), (0, 1, 0, 1.0, 1)], {"n_days": 2, "horizon_days": 1, "ages": [20.0]}),
    "no ages": (tiny_rows(60), {"n_days": 60, "ages": [None, None, None]}),
    "no attributes": (tiny_rows(60), {"n_days": 60, "ages": [20.0, 30.0, 40.0], "attributes": False}),
    "one channel": (tiny_rows(60, channel=2), {"n_days": 60, "ages": [20.0, 30.0, 40.0]}),
    "all prices zero": ([(c, d, a, 0.0, h) for c, d, a, _, h in tiny_rows(60)], {"n_days": 60, "ages": [20.0] * 3}),
    "one purchase before a gap": ([(0, 0, 0, 1.0, 1), (0, 99, 0, 1.0, 1)], {"n_days": 100, "ages": [20.0]}),
    "nobody bought in the label window but one": (
        [*tiny_rows(40), (0, 59, 0, 1.0, 1)],
        {"n_days": 60, "ages": [20.0] * 3},
    ),
}


@pytest.mark.browser
@pytest.mark.parametrize("name", ODD_SHOPS)
def test_odd_shops_have_a_report_without_empty_charts(name: str, tmp_path: Path, visit: Callable[..., Any]) -> None:
    rows, options = ODD_SHOPS[name]
    run(tmp_path, write_rows(tmp_path, rows, n_articles=4, **options))
    seen = visit(tmp_path / "out/report.html")
    assert seen.state == "ready"
    assert seen.console == []
    assert [figure["title"] for figure in seen.figures if figure["marks"] < 1] == []


def test_what_is_missing_is_said_in_words(tmp_path: Path) -> None:
    split = write_rows(tmp_path, tiny_rows(60), n_articles=4, ages=[None] * 3, n_days=60, attributes=False)
    run(tmp_path, split)
    html = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "The articles table does not say: product groups, product types" in html
    assert "No customer&#39;s age is known" in html


def test_a_shop_of_a_few_weeks_has_not_grown_old(tmp_path: Path) -> None:
    """The same customers buy the same articles every week: in the data both are strangers at first, and then not."""
    rows = [(who, day, (who + day) % 40, 1.0, 1) for day in range(63) for who in range(60) if (who + day) % 7 == 0]
    split = write_rows(tmp_path, rows, n_articles=40, ages=[30.0] * 60, n_days=63)
    _, summary = run(tmp_path, split)
    assert not {kind for kind in (said["kind"] for said in summary["observations"]) if kind.startswith("drift")}
    _, again = run(tmp_path, split, into="again", previous=json.loads((tmp_path / "out/statistics.json").read_text()))
    assert again["features_moved"] == []


def test_the_word_for_what_sold_lately_is_not_that_for_what_is_ranked(lively: tuple[Path, dict[str, Any]]) -> None:
    html = (lively[0] / "out/report.html").read_text(encoding="utf-8")
    assert "Articles selling" in html
    assert "Articles live" not in html
