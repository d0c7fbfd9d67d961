"""The shop's rules as data: what is not to be shown, what is placed by hand, how much of one thing, what comes again.

{"out_of_stock": ["0706016001"], "blocked": [],
 "pins": [{"article_id": "0372860002", "position": 1, "index_group": "Ladieswear", "until": "2020-10-04"}],
 "caps": {"Jersey Basic": 3},
 "repurchase": {"Shoes": "never", "Garment Upper body": 30}}
"""

import codecs
import datetime as dt
import hashlib
import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError, model_validator
from pydantic_core import ErrorDetails

MAX_RULES_BYTES = 4 << 20  # 300,000 article_ids
MAX_POSITION = 100

Days = Annotated[StrictInt, Field(ge=1, le=36_500)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=200)]
ArticleId = Annotated[StrictStr, Field(min_length=10, max_length=10)]


class RulesInvalid(ValueError):
    """A rules file that is refused, with the reason; the rules before it stay."""


class Pin(BaseModel):
    """An article that stands at a position of every answer that it fits."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    article_id: ArticleId
    position: Annotated[StrictInt, Field(ge=1, le=MAX_POSITION)]
    """From 1; an answer that is shorter does not show it."""
    index_group: Name | None = None
    """Only for requests that filter by this group, or whose purchases are mostly of it."""
    since: dt.date | None = Field(None, alias="from")
    until: dt.date | None = None
    """Both days count, in UTC."""

    def is_current(self, today: dt.date) -> bool:
        """Say whether today is within its days."""
        return (self.since is None or self.since <= today) and (self.until is None or today <= self.until)


class Rules(BaseModel):
    """What a rules file says; every part may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out_of_stock: list[ArticleId] = []
    blocked: list[ArticleId] = []
    """Both are never answered; two lists, because two systems write them."""
    pins: Annotated[list[Pin], Field(max_length=1000)] = []
    caps: dict[Name, Annotated[StrictInt, Field(ge=0, le=100)]] = {}
    """Garment group → at most so many articles of it in an answer."""
    repurchase: dict[Name, Literal["never", "always"] | Days] = {}
    """Product group → whether what was bought may be answered again: never, always, or after so many days."""

    @model_validator(mode="after")
    def _check_pins(self) -> "Rules":
        places: dict[tuple[int, str | None], list[Pin]] = {}
        for pin in self.pins:
            if pin.since is not None and pin.until is not None and pin.since > pin.until:
                raise ValueError(f"the pin of {pin.article_id} ends on {pin.until}, before it begins on {pin.since}")
            places.setdefault((pin.position, pin.index_group), []).append(pin)
        for (position, index_group), pins in places.items():
            pins.sort(key=lambda pin: pin.since or dt.date.min)
            # In the order of their first days, a pin overlaps an earlier one when it overlaps the one before it.
            for one, following in pairwise(pins):
                if one.until is None or (following.since or dt.date.min) <= one.until:
                    raise ValueError(
                        f"{one.article_id} and {following.article_id} are both pinned to position {position}"
                        f"{f' of {index_group}' if index_group else ''} on the same days"
                    )
        return self


@dataclass(frozen=True, slots=True)
class RulesVersion:
    """Rules that were read, and the hash of the file that they were read from."""

    rules: Rules = field(default_factory=lambda: Rules())
    version: str = ""

    def __bool__(self) -> bool:
        """Say whether there is anything to obey."""
        return self.rules != Rules()


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:  # only the last would count, and what the first blocks be on show again
            raise RulesInvalid(f"{name[:50]!r} is given twice; make one of the two")
        seen.add(name)


def _fault(error: ErrorDetails) -> str:
    """Say one fault of a rules file: where, what it is, and what to write."""
    place, given = [str(part) for part in error["loc"]], repr(error["input"])[:50]
    where = ".".join(place) or "the file"
    if place[:1] == ["repurchase"] and len(place) > 1:
        return f'{".".join(place[:2])}: write "never", "always" or a number of days from 1 to 36500, not {given}'
    if error["type"] == "extra_forbidden":
        known = Pin.model_json_schema() if place[0] == "pins" else Rules.model_json_schema()
        return f"{where}: not known; known are {', '.join(known['properties'])}"
    if error["type"] == "missing":
        return f"{where}: is missing"
    if error["type"].startswith("string_too") and (
        place[0] in ("out_of_stock", "blocked") or place[-1] == "article_id"
    ):
        return f"{where}: an article_id has 10 digits, unlike {given}"
    if error["type"].startswith("date"):
        return f"{where}: write a day as 2026-10-01, not {given}"
    return f"{where}: {error['msg'].removeprefix('Value error, ').replace('Input should be', 'must be')}"


def parse_rules(text: bytes) -> RulesVersion:
    """Check the bytes of a rules file; RulesInvalid names every fault of the first ten."""
    if len(text) > MAX_RULES_BYTES:
        raise RulesInvalid(f"larger than {MAX_RULES_BYTES:,} bytes")
    try:
        plain = text.removeprefix(codecs.BOM_UTF8)  # some editors write it
        rules = Rules.model_validate_json(plain)
        json.loads(plain, object_pairs_hook=_refuse_duplicate_keys)
    except ValidationError as error:
        faults = dict.fromkeys(_fault(one) for one in error.errors())  # of a choice, each way to be wrong is listed
        raise RulesInvalid("; ".join(list(faults)[:10])) from error
    except RecursionError as error:
        raise RulesInvalid("the file: nested too deep") from error
    return RulesVersion(rules, hashlib.sha256(text).hexdigest()[:12])
