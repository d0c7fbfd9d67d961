from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.eda.dataset import Calendar, Coded, whole_customers
from tests.pipelines.eda.processed_tables import write_rows


@pytest.mark.parametrize("rows_per_chunk", [1, 2, 3, 100])
def test_chunks_never_part_a_customer_and_lose_nothing(tmp_path: Path, rows_per_chunk: int) -> None:
    rows = [(customer, day, 0, 1.0, 1) for customer, n in enumerate((1, 5, 2, 1)) for day in range(n)]
    write_rows(tmp_path, rows, n_articles=1, ages=[None] * 4, n_days=20)
    chunks = [chunk.customer for chunk in whole_customers(tmp_path / "transactions.parquet", rows_per_chunk)]
    assert np.concatenate(chunks).tolist() == [0, 1, 1, 1, 1, 1, 2, 2, 3]
    seen = [customer for chunk in chunks for customer in set(chunk.tolist())]
    assert len(seen) == len(set(seen)) == 4


def test_weeks_are_whole_before_the_cutoff() -> None:
    split = {"first_day": "2020-06-01", "last_day_index": 17, "cutoff_day": 11, "label_end_day": 18}
    calendar = Calendar.from_split(split)
    # days 0–3 are the partial first week, 4–10 the week before the cutoff, 11–17 the label week
    assert calendar.week_positions().tolist() == [0] * 4 + [1] * 7 + [2] * 7
    assert calendar.n_weeks == 3
    assert calendar.week_start(2) == calendar.cutoff_date


def test_null_is_a_value_of_its_own() -> None:
    coded = Coded.from_strings(pl.Series(["b", None, "a", "b"]))
    assert [coded.labels[code] for code in coded.codes] == ["b", "unknown", "a", "b"]
    assert coded.is_informative
    assert not Coded.from_strings(pl.Series([None, None], dtype=pl.String)).is_informative
