"""The promotion decision, case by case, with its reasons in words."""

import doctest
from dataclasses import replace
from datetime import date

import pytest

from pipelines import gate
from pipelines.errors import DataGateError
from pipelines.gate import Rival, check_ceiling, decide
from pipelines.recommender.metrics import Interval


def interval(mean: float, width: float = 0.002, n: int = 1000) -> Interval:
    return Interval(mean, mean - width, mean + width, n)


def rival(name: str, map_at_12: float, difference: Interval, slices: dict[str, Interval] | None = None) -> Rival:
    return Rival(name, map_at_12, difference, slices or {}, dict.fromkeys(slices or {}, map_at_12))


def baselines(popular: float = 0.01, repurchase: float = 0.004) -> dict[str, Rival]:
    return {
        "recent_popularity": rival("recent_popularity", 0.010, interval(popular)),
        "repurchase_popularity": rival("repurchase_popularity", 0.016, interval(repurchase)),
    }


@pytest.mark.parametrize(
    ("champion", "threshold", "is_promoted", "reason"),
    [
        (None, 0.0, True, "no champion to beat: the baselines are the bar"),
        (interval(0.003), 0.0, True, "better than champion v1 beyond the noise: difference +0.0030"),
        (interval(0.001), 0.0, False, "not better than champion v1 beyond the noise: difference +0.0010"),
        (interval(0.002), 0.0, False, "the lower bound must exceed METRIC_THRESHOLD = 0"),  # equal is not above
        (interval(0.003), 0.002, False, "the lower bound must exceed METRIC_THRESHOLD = 0.002"),
        (interval(0.0), -0.005, True, "at most as much worse than champion v1 as METRIC_THRESHOLD = -0.005 allows"),
        (interval(-0.001), -0.005, True, "interval -0.0030 to +0.0010 over 1,000 customer-weeks"),
        (interval(-0.004), -0.005, False, "the lower bound must exceed METRIC_THRESHOLD = -0.005"),
        (interval(float("nan")), 0.0, False, "not better than champion v1"),
    ],
)
def test_champion_must_be_beaten_by_the_threshold(
    champion: Interval | None, threshold: float, is_promoted: bool, reason: str
) -> None:
    held = rival("v1", 0.018, champion) if champion else None
    decision = decide(0.02, baselines(), held, threshold)
    assert decision.is_promoted is is_promoted
    assert reason in decision.reasons[-1]


@pytest.mark.parametrize(
    ("popular", "repurchase", "is_promoted"),
    [(0.01, 0.004, True), (0.01, 0.0, False), (0.0, 0.004, False), (-0.01, 0.004, False), (0.01, -0.001, False)],
)
def test_every_baseline_must_be_beaten_even_by_a_better_challenger(
    popular: float, repurchase: float, is_promoted: bool
) -> None:
    for champion in (None, rival("v1", 0.001, interval(0.01))):
        decision = decide(0.02, baselines(popular, repurchase), champion, threshold=-1.0)
        assert decision.is_promoted is is_promoted


def test_too_few_customers_tell_nothing_of_a_champion() -> None:
    for n, is_promoted in ((1, False), (29, False), (30, True)):
        decision = decide(0.02, baselines(), rival("v1", 0.01, interval(0.01, width=0.0, n=n)), threshold=0.0)
        assert decision.is_promoted is is_promoted
        assert ("can be told from noise" in decision.reasons[-1]) is not is_promoted


def test_nothing_replaces_a_champion_that_cannot_be_compared() -> None:
    decision = decide(0.02, baselines(), None, 0.0, objection="champion v1 was fitted on the label week")
    assert decision.is_promoted is False
    assert decision.reasons[-1] == "champion v1 was fitted on the label week"
    assert len(decision.reasons) == 3  # what the baselines say is told all the same


def test_reasons_read_aloud() -> None:
    decision = decide(0.02, baselines(repurchase=-0.001), None, 0.0)
    assert decision.reasons == [
        "map_at_12 0.0200 is above recent_popularity (0.0100): difference +0.0100, 95 % interval +0.0080 to +0.0120 "
        "over 1,000 customer-weeks",
        "map_at_12 0.0200 is not above repurchase_popularity (0.0160): difference -0.0010, 95 % interval -0.0030 to "
        "+0.0010 over 1,000 customer-weeks",
        "no champion to beat: the baselines are the bar",
    ]


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(gate) == (0, 2)


def test_a_first_model_whose_gain_may_be_chance_is_promoted_and_says_so() -> None:
    decision = decide(0.02, baselines(repurchase=0.001), None, 0.0)
    assert decision.is_promoted
    assert decision.reasons[2:] == [
        "weak evidence: over 1,000 customer-weeks the gain over repurchase_popularity may be chance; about 4 "
        "times as many would tell, which a longer backtest may have",
        "no champion to beat: beating every baseline on average is enough, since some model must answer",
    ]


def test_no_backtest_is_advised_for_a_gain_that_none_could_tell() -> None:
    decision = decide(0.02, baselines(repurchase=0.0001), None, 0.0)
    assert decision.is_promoted
    assert decision.reasons[2].endswith("may be chance; no backtest is long enough to tell so small a gain from none")


def test_a_first_model_that_is_refused_is_not_told_that_beating_every_baseline_is_enough() -> None:
    decision = decide(0.02, baselines(popular=0.0001, repurchase=-0.001), None, 0.0)
    assert not decision.is_promoted
    assert decision.reasons[-1] == "no champion to beat: the baselines are the bar"


def test_gains_beyond_the_noise_are_not_called_weak() -> None:
    reasons = decide(0.02, baselines(), None, 0.0).reasons
    assert [reason for reason in reasons if gate.WEAK in reason] == []


def test_a_difference_that_rounds_to_nothing_has_no_sign() -> None:
    nothing = Interval(-0.00001, -0.00004, 0.00004, 500)
    decision = decide(0.02, {"rule": rival("rule", 0.02, nothing)}, None, 0.0)
    assert "difference 0.0000, 95 % interval 0.0000 to 0.0000 over" in decision.reasons[0]


@pytest.mark.parametrize(("map_at_12", "n_live"), [(0.501, 25), (1.0, 10_000)])
def test_a_metric_too_good_to_be_true_stops_the_run(map_at_12: float, n_live: int) -> None:
    with pytest.raises(
        DataGateError,
        match=f"map_at_12 {map_at_12:.4f} in the week from 2020-09-16 is above 0.5: too good to be true.*nothing was",
    ):
        check_ceiling(map_at_12, n_live, 0.5, date(2020, 9, 16))


@pytest.mark.parametrize(("map_at_12", "n_live"), [(0.5, 10_000), (1.0, 24), (0.02, 1)])
def test_what_can_be_true_stops_no_run(map_at_12: float, n_live: int) -> None:
    check_ceiling(map_at_12, n_live, 0.5, date(2020, 9, 16))


def test_a_higher_ceiling_lets_a_shop_pass_whose_customers_always_buy_the_same() -> None:
    check_ceiling(0.8, 10_000, 1.0, date(2020, 9, 16))
    assert decide(0.8, baselines(), None, 0.0, ceiling=1.0).is_promoted


def test_what_was_not_measured_is_not_promoted() -> None:
    assert not decide(float("nan"), baselines(), None, 0.0).is_promoted


def test_a_difference_of_rounding_beats_no_rule() -> None:
    decision = decide(0.02, baselines(popular=1e-17), None, 0.0)
    assert not decision.is_promoted
    assert decision.reasons[0].startswith("map_at_12 0.0200 is not above recent_popularity")


def test_few_customers_in_many_weeks_are_weak_evidence() -> None:
    few = {name: replace(one, n_customers=2) for name, one in baselines().items()}
    assert "weak evidence: over 1,000 customer-weeks of 2 customers the gain over" in str(decide(0.02, few, None, 0.0))
    assert "weak evidence" not in str(decide(0.02, baselines(), None, 0.0))


@pytest.mark.parametrize(("map_at_12", "is_promoted"), [(0.5, True), (0.501, False), (1.0, False)])
def test_what_is_too_good_to_be_true_is_refused(map_at_12: float, is_promoted: bool) -> None:
    decision = decide(map_at_12, baselines(), None, 0.0)
    assert decision.is_promoted is is_promoted
    if not is_promoted:
        assert decision.reasons == [
            f"map_at_12 {map_at_12:.4f} is above 0.5: too good to be true, or of so few articles or customers that it "
            "proves nothing; where they do buy the same again and again, -p metric-ceiling=1 lets it pass"
        ]


@pytest.mark.parametrize(
    ("loss", "is_promoted"),
    [
        (interval(-0.010, width=0.001), False),  # surely loses more than a tenth of 0.018
        (interval(-0.010, width=0.009), True),  # may be noise
        (interval(-0.010, width=0.001, n=30), False),
        (interval(-0.010, width=0.0, n=29), True),  # too few to know
        (interval(-0.001, width=0.0005), True),  # surely loses, and little
        (interval(0.01), True),
    ],
)
def test_no_slice_may_lose_much_beyond_its_noise(loss: Interval, is_promoted: bool) -> None:
    champion = rival("v1", 0.018, interval(0.003), {"warm": interval(0.004), "age under 25": loss})
    decision = decide(0.02, baselines(), champion, 0.0)
    assert decision.is_promoted is is_promoted
    assert any(reason.startswith("customers in slice 'age under 25' lose: ") for reason in decision.reasons) is (
        not is_promoted
    )


def test_a_slice_is_held_against_what_the_champion_reaches_in_it() -> None:
    loss = interval(-0.0025, width=0.0005)
    for reached, is_promoted in ((0.018, False), (0.030, True)):  # a tenth is .0018 and .0030
        champion = Rival("v1", 0.018, interval(0.003), {"cold": loss}, {"cold": reached})
        assert decide(0.02, baselines(), champion, 0.0).is_promoted is is_promoted


def test_an_equal_model_is_told_what_would_let_it_follow() -> None:
    decision = decide(0.02, baselines(), rival("v1", 0.02, interval(0.0, width=0.0)), 0.0)
    assert decision.is_promoted is False
    assert decision.reasons[-1] == (
        "no better than champion v1: both score the same for each of 1,000 customer-weeks, so nothing is lost; "
        "should an equal model follow where it knows newer purchases, METRIC_THRESHOLD = -0.001 lets it"
    )
    assert decide(0.02, baselines(), rival("v1", 0.02, interval(0.0, width=0.0)), -0.001).is_promoted
