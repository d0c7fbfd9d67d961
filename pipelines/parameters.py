"""What a run can be given: one table of workflow parameters, and every mistake in them said at once."""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches

from pipelines.errors import UsageError

# A name that can stand in a lake key, a Kubernetes label and a file name alike.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
# A run is a Kubernetes object: lower-case DNS label, and its name is also a label's value (63 characters).
_RUN_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

# Nothing is counted in more; int() refuses thousands of digits, with an error of its own.
MAX_DIGITS = 9

Check = Callable[[str], str | None]


def _is_present(value: str) -> str | None:
    return None if value.strip() else "is empty; give a folder in Kaggle's format, s3://… or synthetic://…"


def _is_name(value: str) -> str | None:
    return None if _NAME.fullmatch(value) else "must be 1 to 63 letters, digits, '.', '_' or '-'"


def _is_share(value: str) -> str | None:
    number = finite_number(value)
    return None if number is not None and 0 <= number <= 1 else "must be a number from 0 to 1, such as 0.01"


def _is_positive_share(value: str) -> str | None:
    number = finite_number(value)
    return None if number is not None and 0 < number <= 1 else "must be a number above 0 and at most 1, such as 0.5"


def _is_date_or_empty(value: str) -> str | None:
    if not value:
        return None
    try:
        # fromisoformat alone also takes 20200916 and 2020-W38-3, which no step would print back the same way.
        return None if date.fromisoformat(value).isoformat() == value else "must be written as YYYY-MM-DD"
    except ValueError:
        return "must be a date written as YYYY-MM-DD, such as 2020-09-16"


def _is_count(minimum: int) -> Check:
    def check(value: str) -> str | None:
        # isdecimal also accepts other scripts' digits, which int() would take and a pod's command line should not see.
        whole = value.isascii() and value.isdecimal() and len(value) <= MAX_DIGITS
        return None if whole and int(value) >= minimum else f"must be a whole number of at least {minimum}"

    return check


def _is_json_object(value: str) -> str | None:
    def refuse_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        decoded = json.loads(value, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        return f"""must be a JSON object such as {{"learning_rate": 0.001}}; {error}"""
    return None if isinstance(decoded, dict) else """must be a JSON object such as {"learning_rate": 0.001}"""


def _is_anything(_value: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One workflow parameter. Its value is text everywhere: in the template, on Argo and on a step's command line."""

    name: str
    default: str
    description: str
    check: Check


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        name="source",
        default="synthetic://?customers=2000&seed=7",
        description="Where the purchases come from: a folder in Kaggle's format, s3://… or synthetic://…",
        check=_is_present,
    ),
    Parameter(
        name="data-version",
        default="latest",
        description="'latest' reads the source; the run_id of raw data already in the lake uses that as it is.",
        check=_is_name,
    ),
    Parameter(
        name="max-rejected-share",
        default="0.01",
        description="Share of rejected rows above which ingest stops with exit 3.",
        check=_is_share,
    ),
    Parameter(
        name="lake",
        default="",
        description="The lake, a folder or s3://bucket/prefix; empty means $S3_DATA_LAKE_BUCKET.",
        check=_is_anything,
    ),
    Parameter(
        name="cutoff-date",
        default="",
        description="First day that the model must not see; empty means last day in the data − horizon + 1.",
        check=_is_date_or_empty,
    ),
    Parameter(
        name="horizon-days",
        default="7",
        description="Days in the label window, from cutoff-date on.",
        check=_is_count(1),
    ),
    Parameter(
        name="accept-gates",
        default="",
        description="Quality gates, separated by commas, that may fail because someone looked.",
        check=_is_anything,
    ),
    Parameter(
        name="hyperparameters",
        default="{}",
        description='A JSON object for the trainer, such as {"hidden": 16}.',
        check=_is_json_object,
    ),
    Parameter(
        name="model-version",
        default="auto",
        description="Name of the bundle version; 'auto' derives it from date and content.",
        check=_is_name,
    ),
    Parameter(
        name="backtest",
        default="0",
        description="Number of additional weekly cutoffs that training is evaluated on.",
        check=_is_count(0),
    ),
    Parameter(
        name="metric-ceiling",
        default="0.5",
        description="A map_at_12 above it means that the label week leaked, and stops with exit 3; 1 lets all pass.",
        check=_is_positive_share,
    ),
)


def described(without: Collection[str], parameters: Sequence[Parameter] = PARAMETERS) -> str:
    """Say what `-p` takes that has no option of its own, for a --help."""
    return " ".join(
        f"{parameter.name}={parameter.default}: {parameter.description.rstrip('.')}."
        for parameter in parameters
        if parameter.name not in without
    )


def finite_number(text: str) -> float | None:
    """Read a number; None for text, nan and infinities, which no threshold can mean."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def parse_assignments(assignments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split `name=value` arguments into values and complaints; only the first '=' divides.

    >>> parse_assignments(["source=synthetic://?customers=200", "backtest"])
    ({'source': 'synthetic://?customers=200'}, ['-p backtest: expected name=value, such as -p horizon-days=7'])
    """
    values: dict[str, str] = {}
    problems: list[str] = []
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            problems.append(f"-p {assignment}: expected name=value, such as -p horizon-days=7")
        elif values.get(name, value) != value:
            problems.append(f"-p {name}: given twice, as {values[name]!r} and as {value!r}")
        else:
            values[name] = value
    return values, problems


def check_parameters(given: Mapping[str, str], parameters: Sequence[Parameter] = PARAMETERS) -> list[str]:
    """List everything wrong with the given values; unknown names are answered with the nearest known one."""
    known = {parameter.name: parameter for parameter in parameters}
    problems: list[str] = []
    for name, value in given.items():
        if name not in known:
            problems.append(f"unknown parameter {name!r}; {_nearest(name, list(known))}")
        elif complaint := known[name].check(value):
            problems.append(f"{name} = {value!r} {complaint}")
    return problems


def check_run_id(run_id: str) -> list[str]:
    if _RUN_ID.fullmatch(run_id):
        return []
    return [f"run-id = {run_id!r} must be 1 to 63 lower-case letters, digits or '-', as a Kubernetes name is"]


def complete(given: Mapping[str, str], parameters: Sequence[Parameter] = PARAMETERS) -> dict[str, str]:
    """Give every parameter a value, in the order of the table."""
    return {parameter.name: given.get(parameter.name, parameter.default) for parameter in parameters}


def refuse(problems: Sequence[str]) -> None:
    """Raise one UsageError that holds every problem; do nothing when there is none."""
    if len(problems) == 1:
        raise UsageError(problems[0])
    if problems:
        raise UsageError(
            "\n".join([f"{len(problems)} things are wrong with this run:", *(f"  - {p}" for p in problems)])
        )


def _nearest(name: str, known: list[str]) -> str:
    # People write cutoff_date for cutoff-date: spelling is compared with both written alike.
    matches = get_close_matches(name.lower().replace("_", "-"), known, n=1, cutoff=0.5)
    return f"did you mean {matches[0]!r}?" if matches else f"known are {', '.join(known)}"
