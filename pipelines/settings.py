"""What a pipeline process takes from its environment and command line: built once at the edge, then frozen."""

import math
import os
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipelines.errors import UsageError
from pipelines.logs import LEVELS

LAKE_VARIABLE = "S3_DATA_LAKE_BUCKET"
# Near misses of these are refused; LOG_LEVEL is left out, because other programs have a LOGLEVEL of their own.
DISTINCTIVE_VARIABLES = (LAKE_VARIABLE, "METRIC_THRESHOLD")
NEARNESS = 0.85  # of difflib's ratio: METRIC_TRESHOLD and S3_DATALAKE_BUCKET are near, S3_DATA_BUCKET is not


class Settings(BaseSettings):
    """Read from the variables named as aliases; an empty variable counts as unset."""

    model_config = SettingsConfigDict(frozen=True, case_sensitive=True, env_ignore_empty=True, extra="forbid")

    lake: Annotated[str, Field(alias=LAKE_VARIABLE)] = ""
    metric_threshold: Annotated[float, Field(alias="METRIC_THRESHOLD")] = 0.0
    log_level: Annotated[str, Field(alias="LOG_LEVEL")] = "info"

    @field_validator("lake")
    @classmethod
    def _as_uri(cls, value: str) -> str:
        """Read a bare name as a bucket's; a URI or a folder (`./lake`, `/lake`, `~/lake`) stays."""
        value = value.strip()
        return value if not value or "://" in value or value.startswith((".", "/", "~")) else f"s3://{value}"

    @field_validator("metric_threshold", mode="before")
    @classmethod
    def _is_finite_number(cls, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError("is not a number; set it to one such as 0.0, or unset it") from None
        if not math.isfinite(number):
            raise ValueError("is not finite, and nothing compares with it; set it to a number such as 0.0, or unset it")
        return number

    @field_validator("log_level")
    @classmethod
    def _is_level(cls, value: str) -> str:
        if value.lower() not in LEVELS:
            raise ValueError(f"is unknown; {nearest_known(value.lower(), LEVELS)}")
        return value.lower()


def load_settings(lake: str = "") -> Settings:
    """Build the settings; a `lake` of the command line wins over the environment. One UsageError holds all faults."""
    faults = _misspelled_variables()
    settings = None
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            message = fault["msg"].removeprefix("Value error, ")
            faults.append(f"{fault['loc'][0]} = {fault['input']!r} {message}")
    if settings is None or faults:
        raise UsageError(
            faults[0] if len(faults) == 1 else "\n  - ".join([f"{len(faults)} settings are wrong:", *faults])
        )
    return settings.model_copy(update={"lake": lake.strip()}) if lake.strip() else settings


def lake_uri(given: str = "") -> str:
    """Give the lake of `--lake`, or of S3_DATA_LAKE_BUCKET when that is empty; UsageError when neither says one."""
    uri = load_settings(given).lake
    if not uri:
        raise UsageError(
            f"no lake is given; pass --lake ./lake or --lake s3://bucket/prefix, or set {LAKE_VARIABLE} to a bucket"
        )
    return uri


def nearest_known(name: str, known: tuple[str, ...]) -> str:
    """Answer an unknown name with the nearest known one, or with all.

    >>> nearest_known("warn", ("info", "warning"))
    "did you mean 'warning'?"
    """
    matches = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {matches[0]!r}?" if matches else f"known are {', '.join(known)}"


def _misspelled_variables() -> list[str]:
    """A threshold under a misspelled name would be a gate that is silently off."""
    return [
        f"{name} is not a setting; did you mean {nearest[0]}?"
        for name in sorted(os.environ)
        if name not in DISTINCTIVE_VARIABLES
        and (nearest := get_close_matches(name.upper(), DISTINCTIVE_VARIABLES, n=1, cutoff=NEARNESS))
    ]
