"""The sizes of the data that earlier runs accepted from a source, so that a shrunken delivery is noticed.

They are kept in the order of acceptance, each under the hash of its raw data: the same raw data is always compared
with the same predecessor, whatever was accepted since, so that a repeated run ends with the same bytes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from pipelines.data.quality import LOW_VOLUME, MIN_VOLUME, Gate, Level
from pipelines.errors import ArtefactError, LakeConflict, LakeKeyMissing
from pipelines.lake import Lake
from pipelines.steps.fingerprint import text_sha256

MIN_ROWS_KEPT, FEW_ROWS_KEPT = 0.9, 0.99  # a history grows; corrections take back a little
MIN_KEYS_KEPT = 0.5  # catalogues drop old articles and customers ask to be forgotten, but not half of them
MAX_REMEMBERED = 400  # a year of nights: one small file
NO_EARLIER_RUN = "no earlier run of this source to compare with"


class DataSize(BaseModel):
    """What one delivery of a source is compared with the next by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    raw_sha256: str
    run_id: str
    n_transactions: Annotated[int, Field(ge=0)]
    n_last_week_rows: Annotated[int, Field(ge=0)]
    n_articles: Annotated[int, Field(ge=0)]
    n_customers: Annotated[int, Field(ge=0)]


class AcceptedSizes(BaseModel):
    """All deliveries of one source that passed the gates, oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    sizes: tuple[DataSize, ...] = ()

    def before(self, raw_sha256: str) -> DataSize | None:
        """Give the delivery accepted before this one; the last one when this one is new, None when it is the first."""
        position = next((at for at, size in enumerate(self.sizes) if size.raw_sha256 == raw_sha256), len(self.sizes))
        return self.sizes[position - 1] if position else None

    def with_size(self, size: DataSize) -> AcceptedSizes:
        if any(known.raw_sha256 == size.raw_sha256 for known in self.sizes):
            return self
        return self.model_copy(update={"sizes": (*self.sizes, size)[-MAX_REMEMBERED:]})


def accepted_key(source: str) -> str:
    return f"index/accepted/{text_sha256(source)[:16]}.json"


def read_accepted(lake: Lake, source: str) -> AcceptedSizes:
    """Read what was accepted from a source; nothing yet is no error."""
    return _read_versioned(lake, source)[0]


def remember_accepted(lake: Lake, source: str, size: DataSize) -> None:
    """Add a delivery; of several runs that finish at once, none is lost."""
    for attempt in Retrying(
        retry=retry_if_exception_type(LakeConflict), stop=stop_after_attempt(20), wait=wait_random(0, 0.2), reraise=True
    ):
        with attempt:
            accepted, etag = _read_versioned(lake, source)
            extended = accepted.with_size(size)
            if extended is not accepted:
                data = (extended.model_dump_json(indent=1) + "\n").encode()
                lake.write_bytes(accepted_key(source), data, if_match=etag, if_absent=etag is None)


def check_drop(size: DataSize, previous: DataSize | None) -> list[Gate]:
    """Compare a delivery with the one before; without one, all pass."""
    gates = []
    for gate, field, least, few in (
        ("drop_total_rows", "n_transactions", MIN_ROWS_KEPT, FEW_ROWS_KEPT),
        ("drop_last_week_rows", "n_last_week_rows", MIN_VOLUME, LOW_VOLUME),
        ("drop_articles", "n_articles", MIN_KEYS_KEPT, FEW_ROWS_KEPT),
        ("drop_customers", "n_customers", MIN_KEYS_KEPT, FEW_ROWS_KEPT),
    ):
        if previous is None:
            gates.append(Gate(gate, "ok", 1.0, least, NO_EARLIER_RUN))
            continue
        now, before = getattr(size, field), getattr(previous, field)
        kept = round(now / before, 6) if before else 1.0
        # A last week of a few dozen rows may well lose most of them: five deviations, in baskets of some three rows.
        is_chance = field == "n_last_week_rows" and before - now < 5 * (5 * before) ** 0.5
        level: Level = "ok" if is_chance or kept >= few else "warning" if kept >= least else "failed"
        hint = "" if level == "ok" else "; look at what the source lost"
        gates.append(Gate(gate, level, kept, least, f"{field} is {now}, run {previous.run_id} had {before}{hint}"))
    return gates


def _read_versioned(lake: Lake, source: str) -> tuple[AcceptedSizes, str | None]:
    key = accepted_key(source)
    try:
        data, etag = lake.read_versioned(key)
    except LakeKeyMissing:
        return AcceptedSizes(source=source), None
    try:
        return AcceptedSizes.model_validate_json(data), etag
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise ArtefactError(
            f"{lake.uri_of(key)} is damaged: {field}: {fault['msg'].lower()}; delete it to start a new one"
        ) from error
