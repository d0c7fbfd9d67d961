import doctest

import pytest

from pipelines import parameters
from pipelines.errors import UsageError
from pipelines.parameters import PARAMETERS, check_parameters, check_run_id, complete, parse_assignments, refuse


def test_defaults_are_valid_values_themselves() -> None:
    assert check_parameters(complete({})) == []


def test_doctests() -> None:
    assert doctest.testmod(parameters).failed == 0


@pytest.mark.parametrize(
    ("given", "nearest"), [("horizn-days", "horizon-days"), ("cutoff_date", "cutoff-date"), ("Lake", "lake")]
)
def test_unknown_name_is_answered_with_the_nearest(given: str, nearest: str) -> None:
    assert check_parameters({given: "x"}) == [f"unknown parameter {given!r}; did you mean {nearest!r}?"]


def test_name_near_to_nothing_is_answered_with_all_known() -> None:
    [problem] = check_parameters({"zzz": "x"})
    assert all(parameter.name in problem for parameter in PARAMETERS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cutoff-date", "2020-13-01"),
        ("cutoff-date", "20200916"),
        ("cutoff-date", "yesterday"),
        ("horizon-days", "0"),
        ("horizon-days", "-7"),
        ("horizon-days", "1.5"),
        ("horizon-days", "٧"),
        ("horizon-days", "9" * 5000),
        ("hyperparameters", "{"),
        ("hyperparameters", "[1]"),
        ("hyperparameters", '{"dropout": NaN}'),
        ("hyperparameters", ""),
        ("hyperparameters", "[" * 100_000),
        ("max-rejected-share", "1.1"),
        ("max-rejected-share", "nan"),
        ("model-version", "a/b"),
        ("source", ""),
        ("backtest", "-1"),
    ],
)
def test_wrong_value_is_named_with_its_parameter(name: str, value: str) -> None:
    [problem] = check_parameters({name: value})
    assert problem.startswith((f"{name} = {value!r} must ", f"{name} = {value!r} is empty"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cutoff-date", "2020-09-16"),
        ("cutoff-date", ""),
        ("hyperparameters", '{"width": 64, "note": "a=b"}'),
        ("max-rejected-share", "1e-3"),
        ("model-version", "2020-09-16.a"),
        ("backtest", "0"),
    ],
)
def test_right_value_passes(name: str, value: str) -> None:
    assert check_parameters({name: value}) == []


def test_only_the_first_equals_sign_divides() -> None:
    values, problems = parse_assignments(["source=synthetic://?customers=200&seed=7", 'hyperparameters={"a": "="}'])
    assert values == {"source": "synthetic://?customers=200&seed=7", "hyperparameters": '{"a": "="}'}
    assert problems == []


def test_assignment_given_twice_with_different_values_is_refused() -> None:
    assert parse_assignments(["lake=a", "lake=a"])[1] == []
    assert parse_assignments(["lake=a", "lake=b"])[1] == ["-p lake: given twice, as 'a' and as 'b'"]


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(UsageError) as raised:
        refuse(check_parameters({"horizon-days": "x", "cutoff-date": "y"}))
    assert "2 things are wrong" in str(raised.value)
    assert "horizon-days" in str(raised.value)
    assert "cutoff-date" in str(raised.value)
    refuse([])


@pytest.mark.parametrize("run_id", ["", "Upper", "a_b", "-a", "a" * 64])
def test_run_id_must_be_a_kubernetes_name(run_id: str) -> None:
    assert check_run_id(run_id) != []
    assert check_run_id("ml-training-pipeline-20261123-120102-ab12") == []
