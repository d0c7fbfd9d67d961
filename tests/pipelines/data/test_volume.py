import numpy as np
import pytest

from pipelines.data.volume import Counts, clumping, expected_rows, find_silences, recent_ratios

WEEK = np.array([40, 30, 30, 30, 40, 60, 0])  # closed on the seventh day


def weeks_of(n_weeks: int) -> Counts:
    return np.tile(WEEK, n_weeks).astype(np.int64)


def test_a_basket_of_one_article_scatters_as_poisson() -> None:
    assert clumping(100, 100) == 1.0
    assert clumping(300, 100) == 5.0  # 2·3 − 1
    assert clumping(0, 0) == 1.0


def test_a_day_expects_its_weekday() -> None:
    np.testing.assert_allclose(expected_rows(weeks_of(20)), weeks_of(20))


def test_expectation_follows_the_season() -> None:
    growing = np.concatenate([weeks_of(30), 10 * weeks_of(30)])
    expected = expected_rows(growing)
    np.testing.assert_allclose(expected[:7], WEEK)
    np.testing.assert_allclose(expected[-7:], 10 * WEEK)


def test_a_closed_weekday_is_no_silence() -> None:
    assert find_silences(weeks_of(30), clump=1.0) == []


def test_lost_days_are_found_with_what_was_due() -> None:
    per_day = weeks_of(30)
    per_day[71:74] = 0  # the second to fourth day of a week
    (silence,) = find_silences(per_day, clump=1.0)
    assert (silence.start_day, silence.n_days) == (71, 3)
    assert silence.expected_rows == pytest.approx(90, rel=0.03)


def test_months_that_are_lost_are_one_silence() -> None:
    per_day = weeks_of(60)
    per_day[140:280] = 0
    (silence,) = find_silences(per_day, clump=1.0)
    assert (silence.start_day, silence.n_days) == (139, 141)  # the closed day before it included


def test_a_silence_of_a_tiny_shop_can_be_chance() -> None:
    per_day = np.ones(200, dtype=np.int64)
    per_day[100:110] = 0  # e^−10
    assert find_silences(per_day, clump=1.0) == []
    per_day[100:115] = 0
    assert [silence.n_days for silence in find_silences(per_day, clump=1.0)] == [15]
    assert find_silences(per_day, clump=3.0) == []


def test_the_last_week_and_its_days_are_compared_with_the_same_weekdays() -> None:
    per_day = weeks_of(12)
    per_day[-4] = 3  # of 30
    ratios = recent_ratios(per_day, clump=1.0)
    assert [(found.start_day, found.n_days) for found in ratios] == [(77, 7), *((77 + day, 1) for day in range(6))]
    assert [round(found.ratio, 3) for found in ratios] == [round(203 / 230, 3), 1, 1, 1, 0.1, 1, 1]
    assert [found.is_significant for found in ratios] == [False] * 7  # 27 missing of 30 is 4.9 deviations


def test_a_collapse_is_significant_in_a_large_shop() -> None:
    per_day = 100 * weeks_of(12)
    per_day[-4] = 300
    assert [found.is_significant for found in recent_ratios(per_day, clump=6.0)] == [True] + [False] * 3 + [True] + [
        False
    ] * 2


def test_a_day_on_which_the_shop_was_closed_is_a_silence_and_no_collapse() -> None:
    per_day = 100 * weeks_of(12)
    per_day[-4] = 0
    start_days = [found.start_day for found in recent_ratios(per_day, clump=6.0) if found.n_days == 1]
    assert len(per_day) - 4 not in start_days
    assert len(start_days) == 5
    assert [(found.start_day, found.n_days) for found in find_silences(per_day, 6.0)] == [(len(per_day) - 4, 1)]


def test_too_few_weeks_are_not_compared() -> None:
    assert recent_ratios(weeks_of(4), clump=1.0) == []
    assert len(recent_ratios(weeks_of(5), clump=1.0)) == 7


def test_no_purchases_at_all_expect_nothing() -> None:
    per_day = np.zeros(50, dtype=np.int64)
    assert find_silences(per_day, clump=1.0) == []
    assert recent_ratios(per_day, clump=1.0) == []
    assert expected_rows(per_day[:3]).tolist() == [0, 0, 0]
