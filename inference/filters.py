"""What a request may ask for beside who it is for: articles left out, an index group, a range of prices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inference.fields import check_ids, check_length, invalid, type_name

FILTER_FIELDS = ("exclude", "index_group", "price_min", "price_max")
MAX_EXCLUDED = 1000
MAX_INDEX_GROUPS = 20


@dataclass(frozen=True, slots=True)
class Filters:
    """Which live articles may be answered; equal filters share a run of the graph."""

    exclude: tuple[str, ...] = ()
    index_groups: tuple[str, ...] = ()
    """Any of these; empty allows all."""
    price_min: float | None = None
    price_max: float | None = None
    """Both ends count, in the prices of the shop's own data; an article without a price is in no range."""


def read_filters(document: dict[str, Any]) -> Filters | None:
    """Check the filters of one request; None when every one is left out or null."""
    exclude = document.get("exclude")
    if exclude is None:
        exclude = ()
    else:
        check_ids("exclude", exclude, MAX_EXCLUDED, "use index_group or a price range for more")
    price_min, price_max = _price(document, "price_min"), _price(document, "price_max")
    if price_min is not None and price_max is not None and price_min > price_max:
        raise invalid(f"price_min {price_min:g} is above price_max {price_max:g}")
    filters = Filters(tuple(exclude), tuple(_index_groups(document.get("index_group"))), price_min, price_max)
    return None if filters == Filters() else filters


def _index_groups(value: Any) -> Sequence[str]:
    if value is None:
        return ()
    if type(value) is str:
        check_length("index_group", value)
        return (value,)
    if type(value) is not list:
        raise invalid(f"index_group is {type_name(value)}, expected a name or a list of names")
    if not value:
        raise invalid("index_group is an empty list; leave it out instead")
    check_ids("index_group", value, MAX_INDEX_GROUPS, "leave it out to allow all")
    return value


def _price(document: dict[str, Any], name: str) -> float | None:
    value = document.get(name)
    if value is None:
        return None
    if type(value) not in (int, float):
        raise invalid(f"{name} is {type_name(value)}, expected a number")
    if not 0 <= value < 1e12:
        raise invalid(f"{name} is {value:g}, expected a price of 0 or more, below 1e12")
    return float(value)
