import doctest
from collections.abc import Mapping

import numpy as np
import pytest

from pipelines.eda import drift, shoppers
from pipelines.eda.drift import compare, population_stability_index


def distributions(counts: Mapping[str, int]) -> dict[str, dict[str, dict[str, int]]]:
    return {"channel": {"recent": dict(counts)}}


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(drift).failed == 0
    assert doctest.testmod(shoppers).failed == 0


def test_same_counts_are_calm() -> None:
    (found,) = compare(
        distributions({"Store": 300, "Online": 700}), distributions({"Store": 300, "Online": 700}), seen_days=700
    )
    assert (found.psi, found.verdict) == (0.0, "calm")


def test_large_move_names_what_moved() -> None:
    (found,) = compare(
        distributions({"Store": 8000, "Online": 2000}), distributions({"Store": 3000, "Online": 7000}), seen_days=700
    )
    assert found.verdict == "large"
    assert found.psi == pytest.approx(0.5 * np.log(0.8 / 0.3) + 0.5 * np.log(0.7 / 0.2), rel=1e-3)
    assert found.movers[0] == ("Online", 0.7, 0.2)


def test_a_label_that_is_new_stays_finite() -> None:
    (found,) = compare(distributions({"Store": 500, "App": 500}), distributions({"Store": 1000}), seen_days=700)
    assert found.verdict == "large"
    assert np.isfinite(found.psi)


def test_small_samples_are_not_judged() -> None:
    (found,) = compare(
        distributions({"Store": 30, "Online": 2}), distributions({"Store": 3000, "Online": 7000}), seen_days=700
    )
    assert found.verdict == "few"


def test_draws_from_one_shop_are_never_called_drift() -> None:
    """200 pairs of small samples from the same 30 labels: PSI alone would cry wolf at most of them."""
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.ones(30))
    verdicts, values = [], []
    for _ in range(200):
        now, before = (
            dict(zip(map(str, range(30)), map(int, rng.multinomial(150, shares)), strict=True)) for _ in "ab"
        )
        (found,) = compare(distributions(now), distributions(before), seen_days=700)
        verdicts.append(found.verdict)
        values.append(found.psi)
    assert np.mean(np.array(values) > 0.1) > 0.5
    assert not {"moved", "large"} & set(verdicts)


def test_a_feature_that_only_one_run_has_is_left_out() -> None:
    assert compare(distributions({"Store": 1}), {"age": {"recent": {"20–24": 5}}}, seen_days=700) == []


def test_psi_is_symmetric() -> None:
    a, b = [10.0, 20.0, 70.0], [30.0, 30.0, 40.0]
    assert population_stability_index(a, b) == pytest.approx(population_stability_index(b, a))


def test_ages_are_told_apart_only_as_far_as_the_data_reach_back() -> None:
    young = {"1st week": 100, "weeks 3–4": 900}
    older = {"1st week": 100, "weeks 5–8": 500, "weeks 9–13": 400}
    ages = {"article_age": {"recent": older, "before": young}}
    assert compare(ages, ages, seen_days=34, reference="before") == []  # not even the first week is known
    (found,) = compare(ages, ages, seen_days=35, reference="before")
    assert (found.verdict, found.psi) == ("calm", 0.0)
    (found,) = compare(ages, ages, seen_days=28 + 8 * 7, reference="before")
    assert (found.verdict, found.movers[0]) == ("large", ("weeks 3–4", 0.9, 0.0))


def test_a_first_visit_is_one_long_ago_that_the_data_do_not_hold() -> None:
    visits = {"days_since_visit": {"before": {"first visit": 500}, "recent": {"first visit": 100, "4–8 weeks": 400}}}
    assert {drift.psi for drift in compare(visits, visits, seen_days=20, reference="before")} == {0.0}
    (found,) = compare(visits, visits, seen_days=57, reference="before")
    assert found.verdict == "large"
