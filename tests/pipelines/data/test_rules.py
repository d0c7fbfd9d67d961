from datetime import date

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.raw import to_typed
from pipelines.data.reading import Block
from pipelines.data.rules import RowRules, judge_keys
from pipelines.data.schema import TRANSACTION_COLUMNS
from tests.pipelines.data.kaggle_folder import ANNA, SHIRT, SKIRT

TODAY = date(2020, 9, 23)
RULES = RowRules(pl.Series([SHIRT, SKIRT]), TODAY)
GOOD = {
    "t_dat": "2020-01-06",
    "customer_id": ANNA,
    "article_id": SHIRT,
    "price": "0.025",
    "sales_channel_id": "2",
}


def rows_of(*rows: dict[str, str | None]) -> pl.DataFrame:
    meta = {"file": "transactions.csv", "problem": None, "text": None}
    return pl.DataFrame(
        [{**meta, "line": line, **GOOD, **row} for line, row in enumerate(rows, start=2)],
        schema_overrides={"problem": pl.String, "text": pl.String},
    )


@pytest.mark.parametrize(
    ("column", "value", "rule", "reason"),
    [
        ("t_dat", "2020-02-30", "date_invalid", "not a date written YYYY-MM-DD, 2000-01-01 or later"),
        (
            "t_dat",
            "2020-01-06 13:45:10",
            "date_invalid",
            "a day with a time of day; export the day alone, as YYYY-MM-DD",
        ),
        ("t_dat", "06.01.2020", "date_invalid", "not a date written YYYY-MM-DD, 2000-01-01 or later"),
        ("t_dat", "0020-01-06", "date_invalid", "not a date written YYYY-MM-DD, 2000-01-01 or later"),
        ("t_dat", "", "date_invalid", "not a date written YYYY-MM-DD, 2000-01-01 or later"),
        ("t_dat", None, "date_invalid", "not a date written YYYY-MM-DD, 2000-01-01 or later"),
        ("t_dat", "2020-09-24", "date_future", "later than 2020-09-23, the day on which it was read"),
        ("customer_id", "", "customer_missing", "no customer_id"),
        ("customer_id", "  ", "customer_missing", "no customer_id"),
        ("article_id", "", "article_id_format", "no article_id"),
        ("article_id", "01000000011", "article_id_format", "11 characters, expected 10 digits"),
        ("article_id", "01000O0001", "article_id_format", "10 characters, expected 10 digits"),
        (
            "article_id",
            "706016001.0",
            "article_id_format",
            "a spreadsheet or a program wrote the id as a decimal number; export it again as text",
        ),
        (
            "article_id",
            "7.06016E+08",
            "article_id_format",
            "a spreadsheet wrote the id as a number and lost digits; export it again as text",
        ),
        (
            "article_id",
            "999999999",
            "article_id_format",
            "9 digits, expected 10; a spreadsheet may have dropped the leading zero, and with it the article is not in "
            "articles",
        ),
        ("article_id", "0999999999", "article_unknown", "articles has no such article_id"),
        ("price", "free", "price_not_a_number", "not a finite number"),
        ("price", "0,025", "price_not_a_number", "a number with a decimal comma; write 0.025 with a point"),
        ("price", "nan", "price_not_a_number", "not a finite number"),
        ("price", "inf", "price_not_a_number", "not a finite number"),
        ("price", "", "price_not_a_number", "not a finite number"),
        ("price", "-0.01", "price_negative", "below 0"),
        ("price", "1e300", "price_too_high", "above 1,000,000,000, no price of an article in any currency"),
        ("sales_channel_id", "3", "channel_unknown", "sales_channel_id is 1 (store) or 2 (online)"),
        ("sales_channel_id", "1.5", "channel_unknown", "sales_channel_id is 1 (store) or 2 (online)"),
        ("sales_channel_id", "web", "channel_unknown", "sales_channel_id is 1 (store) or 2 (online)"),
    ],
)
def test_each_rule_names_column_value_and_reason(column: str, value: str | None, rule: str, reason: str) -> None:
    good, rejects, n_repaired = RULES.judge(rows_of({}, {column: value}))
    assert (len(good), n_repaired) == (1, 0)
    told = rejects.row(0, named=True)
    assert {name: told[name] for name in ("file", "line", "column", "value", "rule", "reason")} == {
        "file": "transactions.csv",
        "line": 3,
        "column": column,
        "value": value,
        "rule": rule,
        "reason": reason,
    }
    assert {name: told[name] for name in TRANSACTION_COLUMNS} == {**GOOD, column: value}


def test_a_row_that_breaks_several_rules_is_rejected_once() -> None:
    _, rejects, _ = RULES.judge(rows_of({"price": "-1", "t_dat": "soon"}))
    assert rejects["rule"].to_list() == ["date_invalid"]


def test_nine_digits_that_name_a_known_article_get_their_zero_back() -> None:
    good, rejects, n_repaired = RULES.judge(rows_of({"article_id": SKIRT[1:]}, {}))
    assert good["article_id"].to_list() == [SKIRT, SHIRT]
    assert (len(rejects), n_repaired) == (0, 1)


def test_today_and_a_price_of_zero_and_midnight_times_are_fine() -> None:
    good, rejects, _ = RULES.judge(
        rows_of({"t_dat": "2020-09-23", "price": "0"}, {"t_dat": "2020-01-06 00:00:00", "sales_channel_id": "1.0"})
    )
    assert rejects.is_empty()
    assert good["t_dat"].to_list() == [TODAY, date(2020, 1, 6)]
    assert good["sales_channel_id"].to_list() == [2, 1]


def test_identical_rows_are_separate_purchases() -> None:
    assert len(RULES.judge(rows_of({}, {}))[0]) == 2


days = st.dates(date(1990, 1, 1), date(2030, 1, 1))
typed_rows = st.lists(
    st.tuples(
        st.one_of(days, st.none()),
        st.sampled_from([ANNA, "", "x"]),
        st.sampled_from([SHIRT, SKIRT, SKIRT[1:], "0999999999", ""]),
        st.one_of(st.floats(-1, 1), st.sampled_from([float("nan"), float("inf"), 1e9, 2e9, None])),
        st.sampled_from([0, 1, 2, 3, None]),
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=60)  # the machine may be busy
@given(typed_rows)
def test_the_fast_answer_agrees_with_the_rules(
    rows: list[tuple[date | None, str, str, float | None, int | None]],
) -> None:
    frame = pl.DataFrame(
        rows,
        schema={
            "t_dat": pl.Date,
            "customer_id": pl.String,
            "article_id": pl.String,
            "price": pl.Float64,
            "sales_channel_id": pl.Int8,
        },
        orient="row",
    )
    table: pa.Table = to_typed(frame)
    text = frame.with_columns(pl.all().cast(pl.String)).with_columns(
        file=pl.lit("f"), line=pl.lit(1), problem=pl.lit(None, pl.String), text=pl.lit(None, pl.String)
    )
    good, rejects, n_repaired = RULES.judge(text)
    assert RULES.are_all_met(table) == (rejects.is_empty() and n_repaired == 0)
    assert len(good) + len(rejects) == len(frame)
    assert RULES.are_all_met(to_typed(good))


@pytest.mark.parametrize(("price", "is_met"), [("1e9", True), ("2e9", False)])
def test_the_fast_answer_knows_that_no_article_costs_more_than_a_billion(price: str, is_met: bool) -> None:
    data = ",".join({**GOOD, "price": price}[name] for name in TRANSACTION_COLUMNS).encode()
    typed = Block("transactions.csv", TRANSACTION_COLUMNS, 2, data).typed()
    assert typed is not None
    assert RULES.are_all_met(typed) == is_met


def test_articles_are_kept_once_and_get_their_zero_back() -> None:
    rows = rows_of({"article_id": SHIRT[1:]}, {"article_id": SHIRT}, {"article_id": "7.06E+08"}).select(
        "file", "line", "problem", "text", "article_id"
    )
    good, rejects, n_repaired = judge_keys(rows, "article_id", ["article_id"])
    assert good["article_id"].to_list() == [SHIRT]
    assert n_repaired == 1
    assert rejects.select("line", "rule", "value").rows() == [
        (3, "key_repeated", SHIRT),
        (4, "article_id_format", "7.06E+08"),
    ]


@pytest.mark.parametrize(
    ("column", "value"), [("t_dat", " 2020-01-06"), ("price", " 0.5 "), ("sales_channel_id", "2 ")]
)
def test_blanks_around_a_value_are_left_out_whoever_parses_it(column: str, value: str) -> None:
    data = ",".join({**GOOD, column: value}[name] for name in TRANSACTION_COLUMNS).encode()
    typed = Block("transactions.csv", TRANSACTION_COLUMNS, 2, data).typed()
    good, rejects, _ = RULES.judge(rows_of({column: value}))
    assert len(rejects) == 0
    assert typed is not None
    assert to_typed(good).to_pylist() == typed.to_pylist()


def test_a_typed_row_with_a_blank_customer_is_judged_as_a_rejected_one() -> None:
    data = ",".join({**GOOD, "customer_id": "  "}[name] for name in TRANSACTION_COLUMNS).encode()
    typed = Block("transactions.csv", TRANSACTION_COLUMNS, 2, data).typed()
    assert typed is not None
    assert not RULES.are_all_met(typed)
