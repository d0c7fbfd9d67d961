"""Numbers as people read them. The space before a unit is a no-break space."""

import datetime as dt
import math

NBSP = "\u00a0"
MISSING = "–"


def count(value: float | None) -> str:
    """Write a whole number with thousands separators.

    >>> count(31662)
    '31,662'
    """
    return MISSING if _is_missing(value) else f"{round(value):,}"  # type: ignore[arg-type]


def compact(value: float | None) -> str:
    """Write a large number in three significant digits.

    >>> compact(31_788_324).replace(NBSP, " "), compact(1364)
    ('31.8 M', '1,364')
    """
    if value is None or _is_missing(value):
        return MISSING
    for size, unit in ((1e9, "bn"), (1e6, "M")):
        if abs(value) >= size:
            scaled = value / size
            return f"{scaled:.{2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0}f}{NBSP}{unit}"
    return f"{value:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as a percentage.

    >>> percent(0.1234).replace(NBSP, " "), percent(0.00004).replace(NBSP, " ")
    ('12.3 %', '< 0.1 %')
    """
    if share is None or _is_missing(share):
        return MISSING
    smallest = 10.0**-digits
    if 0 < share * 100 < smallest / 2:
        return f"<{NBSP}{smallest:.{digits}f}{NBSP}%"
    return f"{share * 100:,.{digits}f}{NBSP}%"


def change(ratio: float | None) -> str:
    """Write new/old as a signed percentage, or as a multiple from threefold up.

    >>> change(0.88).replace(NBSP, " "), change(3.6)
    ('−12 %', '3.6×')
    """
    if ratio is None or _is_missing(ratio):
        return MISSING
    if ratio >= 3:
        return f"{ratio:.1f}×"
    sign = "+" if ratio >= 1 else "−"
    return f"{sign}{abs(ratio - 1) * 100:.0f}{NBSP}%"


def decimal(value: float | None, significant: int = 3) -> str:
    """Write a number to so many significant digits, never in scientific notation.

    >>> decimal(0.0278311), decimal(1234.5), decimal(2.0)
    ('0.0278', '1,234', '2')
    """
    if value is None or _is_missing(value):
        return MISSING
    if value == 0:
        return "0"
    digits = max(0, significant - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def day(value: dt.date) -> str:
    """Write a date without a leading zero.

    >>> day(dt.date(2020, 9, 2)).replace(NBSP, " ")
    '2 Sep 2020'
    """
    return f"{value.day}{NBSP}{value:%b}{NBSP}{value:%Y}"


def weekday_and_day(value: dt.date) -> str:
    """Write a date with its weekday.

    >>> weekday_and_day(dt.date(2019, 9, 28)).replace(NBSP, " ")
    'Sat 28 Sep 2019'
    """
    return f"{value:%a}{NBSP}{day(value)}"


def plural(n: float, singular: str, many: str | None = None) -> str:
    """Write a count with its noun.

    >>> plural(1, "day").replace(NBSP, " "), plural(1200, "purchase").replace(NBSP, " ")
    ('1 day', '1,200 purchases')
    """
    if _is_missing(n):
        return MISSING
    return f"{count(n)}{NBSP}{singular if round(n) == 1 else many or singular + 's'}"


def _is_missing(value: float | None) -> bool:
    return value is None or not math.isfinite(value)
