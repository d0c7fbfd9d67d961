from datetime import date

import pytest

from pipelines.data.splits import parse_date, split_at
from pipelines.errors import DataGateError, UsageError

FIRST, LAST = date(2018, 9, 20), date(2020, 9, 22)


def test_without_a_cutoff_the_last_horizon_days_are_the_labels() -> None:
    split = split_at(FIRST, LAST, cutoff_date=None, horizon_days=7)
    assert split.cutoff_date == date(2020, 9, 16)
    assert (split.cutoff_day, split.label_end_day, split.last_day_index) == (727, 734, 733)
    assert split.n_label_days_covered == 7


def test_cutoff_day_itself_opens_week_zero_and_the_day_before_closes_week_minus_one() -> None:
    split = split_at(FIRST, LAST, cutoff_date=date(2020, 8, 19), horizon_days=7)
    days = range(split.cutoff_day - 8, split.cutoff_day + 8)
    assert [split.week_of(day) for day in days] == [-2] + [-1] * 7 + [0] * 7 + [1]


def test_a_label_window_may_reach_behind_the_data() -> None:
    split = split_at(FIRST, LAST, cutoff_date=LAST, horizon_days=7)
    assert (split.n_label_days_covered, split.label_end_day) == (1, split.last_day_index + 7)


@pytest.mark.parametrize("cutoff", [date(2018, 9, 19), date(2020, 9, 23), date(2035, 1, 1)])
def test_a_cutoff_outside_the_data_is_answered_with_the_range(cutoff: date) -> None:
    with pytest.raises(UsageError) as caught:
        split_at(FIRST, LAST, cutoff_date=cutoff, horizon_days=7)
    assert str(caught.value) == (
        f"cutoff_date {cutoff} is outside the data (2018-09-20 to 2020-09-22); it can be from 2018-10-11 to 2020-09-22"
    )


def test_the_allowed_range_begins_where_the_error_says() -> None:
    split_at(FIRST, LAST, cutoff_date=date(2018, 10, 11), horizon_days=7)
    with pytest.raises(UsageError, match="leaves 20 days of history, training needs 21; it can be from 2018-10-11"):
        split_at(FIRST, LAST, cutoff_date=date(2018, 10, 10), horizon_days=7)


def test_a_longer_horizon_needs_a_longer_history() -> None:
    with pytest.raises(UsageError, match="it can be from 2018-12-17"):
        split_at(FIRST, LAST, cutoff_date=date(2018, 10, 18), horizon_days=30)


@pytest.mark.parametrize(("last", "longest"), [(date(2018, 10, 29), 10), (date(2018, 12, 28), 25)])
def test_the_longest_horizon_that_an_error_names_works(last: date, longest: int) -> None:
    assert split_at(FIRST, last, cutoff_date=None, horizon_days=longest).last_day == last
    with pytest.raises(UsageError, match=f"can be at most {longest}$"):
        split_at(FIRST, last, cutoff_date=None, horizon_days=longest + 1)


def test_a_horizon_below_one_day_is_refused() -> None:
    with pytest.raises(UsageError, match="horizon_days 0 must be at least 1"):
        split_at(FIRST, LAST, cutoff_date=None, horizon_days=0)


def test_three_weeks_of_data_are_too_short_for_any_cutoff() -> None:
    with pytest.raises(DataGateError, match=r"spans 21 days \(2018-09-20 to 2018-10-10\).*ingest a longer history"):
        split_at(FIRST, date(2018, 10, 10), cutoff_date=None, horizon_days=7)


@pytest.mark.parametrize("text", ["16.09.2020", "2020-9-16", "20200916", "2020-02-30", "yesterday", "2020-W38-3", " "])
def test_what_is_not_a_date_is_answered_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_date(text, parameter="cutoff_date")
    assert str(caught.value) == f"cutoff_date {text!r} is not a date; write it as YYYY-MM-DD, for example 2020-09-16"


def test_a_date_is_read() -> None:
    assert parse_date("2020-09-16", parameter="cutoff_date") == date(2020, 9, 16)


@pytest.mark.parametrize("cutoff", [None, LAST])
def test_a_horizon_beyond_the_data_is_refused_however_long(cutoff: date | None) -> None:
    with pytest.raises(UsageError, match="horizon_days 99999999999 is longer than the data, "):
        split_at(FIRST, LAST, cutoff_date=cutoff, horizon_days=99_999_999_999)
