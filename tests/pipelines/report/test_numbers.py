"""Numbers as people read them."""

import doctest

import pytest

from pipelines.report import numbers
from pipelines.report.numbers import NBSP, change, compact, count, decimal, percent, plural


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(numbers).failed == 0


@pytest.mark.parametrize("write", [count, compact, percent, change, decimal])
@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_missing_numbers_are_a_dash(write: object, missing: float | None) -> None:
    assert write(missing) == "–"  # type: ignore[operator]


@pytest.mark.parametrize("missing", [float("nan"), float("inf")])
def test_a_missing_count_has_no_noun(missing: float) -> None:
    assert plural(missing, "day") == "–"


@pytest.mark.parametrize(
    ("value", "text"), [(9.994e5, "999,400"), (1.0e6, "1.00 M"), (31_788_324, "31.8 M"), (4.2e11, "420 bn")]
)
def test_compact_keeps_three_digits(value: float, text: str) -> None:
    assert compact(value) == text.replace(" ", NBSP)
