"""The row rules: what makes a purchase, an article or a customer unfit to learn from, each with its reason."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.data.indexing import MAX_PRICE
from pipelines.data.schema import REJECT_COLUMNS, TRANSACTION_COLUMNS

EARLIEST_DAY = date(2000, 1, 1)  # earlier dates are slips of two-digit years
DATE = r"^\d{4}-\d{2}-\d{2}([ T]00:00:00(\.0+)?)?$"
TIME_OF_DAY = r"^\s*\d{4}-\d{2}-\d{2}[ T]\d{1,2}:\d{2}"
DECIMAL_COMMA = r"^\s*\d*,\d+\s*$"
SCIENTIFIC = r"^\d([.,]\d+)?[eE]\+?\d+$"


@dataclass(frozen=True, slots=True)
class RowRules:
    """Judge transactions against the articles that the shop knows and the day on which they are read."""

    known_articles: pl.Series
    today: date

    def are_all_met(self, table: pa.Table) -> bool:
        """Tell fast whether a typed table breaks no rule and needs no repair; False sends it through `judge`."""
        if any(column.null_count for column in table.columns):
            return False
        if len(table) == 0:
            return True
        days = table["t_dat"].cast(pa.int32()).to_numpy()
        first, last = (np.datetime64(day).astype("datetime64[D]").astype(int) for day in (EARLIEST_DAY, self.today))
        price, channel = table["price"].to_numpy(), table["sales_channel_id"].to_numpy()
        return bool(
            days.min() >= first
            and days.max() <= last
            and np.isfinite(price).all()
            and price.min() >= 0
            and price.max() <= MAX_PRICE
            and channel.min() >= 1
            and channel.max() <= 2
            and all(
                (pc.binary_length(pc.utf8_trim_whitespace(values)).to_numpy() > 0).all()
                for values in _dictionaries(table, "customer_id")
            )
            and all(self._are_known(values) for values in _dictionaries(table, "article_id"))
        )

    def _are_known(self, article_ids: pa.StringArray) -> bool:
        return bool(pl.Series(values=article_ids, dtype=pl.String).is_in(self.known_articles.implode()).all())

    def judge(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        """Split rows of text (file, line, problem and the five columns) into good ones, typed, and rejects.

        `problem` is what the reader found: null, or the name of a rule that the row breaks as a whole. The count is
        of the good rows whose 9-digit article_id got its zero back.
        """
        article = pl.col("article_id")
        mended = pl.concat_str([pl.lit("0"), article])
        known = self.known_articles.implode()
        rows = rows.with_columns(
            is_repaired=(article.str.contains(r"^\d{9}$") & mended.is_in(known)).fill_null(False),
            day=pl.when(_bare("t_dat").str.contains(DATE))
            .then(_bare("t_dat").str.slice(0, 10))
            .str.to_date("%Y-%m-%d", strict=False),
            price_number=_bare("price").cast(pl.Float64, strict=False),
            channel=_bare("sales_channel_id").cast(pl.Float64, strict=False),
        ).with_columns(article_id=pl.when("is_repaired").then(mended).otherwise(article))
        # `is_true` keeps null out: what cannot be read fails the rule that reads it.
        rows = rows.with_columns(
            rule=pl.coalesce(
                pl.col("problem"),
                _fails("date_invalid", pl.col("day").is_between(EARLIEST_DAY, date.max)),
                _fails("date_future", pl.col("day") <= self.today),
                _fails("customer_missing", pl.col("customer_id").str.strip_chars() != ""),
                _fails("article_id_format", article.str.contains(r"^\d{10}$")),
                _fails("article_unknown", article.is_in(known)),
                _fails("price_not_a_number", pl.col("price_number").is_finite()),
                _fails("price_negative", pl.col("price_number") >= 0),
                _fails("price_too_high", pl.col("price_number") <= MAX_PRICE),
                _fails("channel_unknown", pl.col("channel").is_in([1.0, 2.0])),
            )
        )
        good = rows.filter(pl.col("rule").is_null())
        typed = good.select(
            t_dat="day",
            customer_id="customer_id",
            article_id="article_id",
            price="price_number",
            sales_channel_id=pl.col("channel").cast(pl.Int8),
        )
        return typed, self._rejects(rows.filter(pl.col("rule").is_not_null())), int(good["is_repaired"].sum())

    def _rejects(self, rows: pl.DataFrame) -> pl.DataFrame:
        column = pl.col("rule").replace_strict(RULE_COLUMNS, default=None, return_dtype=pl.String)
        value = pl.coalesce(
            pl.col("text"), *(pl.when(column == name).then(pl.col(name)) for name in TRANSACTION_COLUMNS)
        )
        reasons = pl.coalesce(
            *(pl.when(pl.col("rule") == rule).then(reason) for rule, reason in self._reasons().items())
        )
        return rows.with_columns(column=column, value=value, reason=reasons).select(
            *REJECT_COLUMNS, *TRANSACTION_COLUMNS
        )

    def _reasons(self) -> dict[str, pl.Expr]:
        article = pl.col("article_id")
        length = article.str.len_chars()
        return {
            "columns": pl.lit("the row does not have as many columns as the header"),
            "encoding": pl.lit("the row is not UTF-8 text"),
            "date_invalid": pl.when(pl.col("t_dat").str.contains(TIME_OF_DAY))
            .then(pl.lit("a day with a time of day; export the day alone, as YYYY-MM-DD"))
            .otherwise(pl.lit(f"not a date written YYYY-MM-DD, {EARLIEST_DAY} or later")),
            "date_future": pl.lit(f"later than {self.today}, the day on which it was read"),
            "customer_missing": pl.lit("no customer_id"),
            "article_id_format": pl.when(article.str.contains(SCIENTIFIC))
            .then(pl.lit("a spreadsheet wrote the id as a number and lost digits; export it again as text"))
            .when(article.str.contains(r"^\d{9}$"))
            .then(pl.lit("9 digits, expected 10; a spreadsheet may have dropped the leading zero, and with it the "
                         "article is not in articles"))
            .when(article.str.contains(r"^\d{9,10}\.0+$"))
            .then(pl.lit("a spreadsheet or a program wrote the id as a decimal number; export it again as text"))
            .when(length > 0)
            .then(pl.format("{} characters, expected 10 digits", length))
            .otherwise(pl.lit("no article_id")),
            "article_unknown": pl.lit("articles has no such article_id"),
            "price_not_a_number": pl.when(pl.col("price").str.contains(DECIMAL_COMMA))
            .then(pl.lit("a number with a decimal comma; write 0.025 with a point"))
            .otherwise(pl.lit("not a finite number")),
            "price_negative": pl.lit("below 0"),
            "price_too_high": pl.lit(f"above {MAX_PRICE:,.0f}, no price of an article in any currency"),
            "channel_unknown": pl.lit("sales_channel_id is 1 (store) or 2 (online)"),
        }  # fmt: skip


RULE_COLUMNS = {
    "date_invalid": "t_dat",
    "date_future": "t_dat",
    "customer_missing": "customer_id",
    "article_id_format": "article_id",
    "article_unknown": "article_id",
    "price_not_a_number": "price",
    "price_negative": "price",
    "price_too_high": "price",
    "channel_unknown": "sales_channel_id",
}


def judge_keys(rows: pl.DataFrame, key: str, own_columns: list[str]) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Split a table of text rows by its key: present, of the right form and not seen before.

    An article_id of 9 digits gets its zero back; the count is of those.
    """
    rows = rows.with_columns(is_repaired=pl.lit(False))
    form = pl.col(key).str.strip_chars() != ""
    if key == "article_id":
        short = pl.col(key).str.contains(r"^\d{9}$").fill_null(False)
        rows = rows.with_columns(
            pl.when(short).then(pl.concat_str([pl.lit("0"), pl.col(key)])).otherwise(pl.col(key)).alias(key),
            is_repaired=short,
        )
        form = pl.col(key).str.contains(r"^\d{10}$")
    rows = rows.with_columns(
        rule=pl.coalesce(
            pl.col("problem"),
            _fails("article_id_format" if key == "article_id" else "customer_missing", form),
            _fails("key_repeated", pl.col(key).is_first_distinct()),
        )
    )
    good = rows.filter(pl.col("rule").is_null())
    reasons = {
        "columns": "the row does not have as many columns as the header",
        "encoding": "the row is not UTF-8 text",
        "article_id_format": "expected 10 digits; a spreadsheet may have changed the column",
        "customer_missing": "no customer_id",
        "key_repeated": f"an earlier row has this {key}",
    }
    rejects = rows.filter(pl.col("rule").is_not_null()).with_columns(
        column=pl.when(pl.col("problem").is_null()).then(pl.lit(key)),
        value=pl.coalesce("text", pl.when(pl.col("problem").is_null()).then(pl.col(key))),
        reason=pl.col("rule").replace_strict(reasons, return_dtype=pl.String),
    )
    return good, rejects.select(*REJECT_COLUMNS, *own_columns), int(good["is_repaired"].sum())


def _bare(name: str) -> pl.Expr:
    """Leave out blanks around a value, as the typed parser does: a row's verdict must not depend on its neighbours."""
    return pl.col(name).str.strip_chars(" \t")


def _fails(rule: str, is_true: pl.Expr) -> pl.Expr:
    return pl.when(is_true.fill_null(False)).then(None).otherwise(pl.lit(rule))


def _dictionaries(table: pa.Table, name: str) -> list[pa.StringArray]:
    return [chunk.dictionary for chunk in table[name].chunks]


def customer_hashes(table: pa.Table) -> NDArray[np.uint64]:
    """Hash the customers that a typed table may name; equal within one process, for counting."""
    hashes = [pl.Series(values=values, dtype=pl.String).hash() for values in _dictionaries(table, "customer_id")]
    return pl.concat(hashes).to_numpy() if hashes else np.empty(0, dtype=np.uint64)
