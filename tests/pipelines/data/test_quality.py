from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from pipelines.data.quality import (
    ACCEPTABLE_GATES,
    Gate,
    Purchases,
    accept,
    check_keys,
    check_purchases,
    parse_accepted,
    refusal,
)
from pipelines.data.splits import split_at
from pipelines.data.volume import Counts
from pipelines.errors import UsageError

FIRST_DAY = date(2020, 1, 1)


def purchases_of(n_rows_per_day: Counts, *, n_days_before_end: int = 7) -> Purchases:
    last_day = FIRST_DAY + timedelta(days=len(n_rows_per_day) - 1)
    return Purchases(
        split=split_at(
            FIRST_DAY, last_day, cutoff_date=last_day - timedelta(days=n_days_before_end - 1), horizon_days=7
        ),
        n_rows_per_day=n_rows_per_day,
        n_unknown_article_rows=0,
        n_unknown_customer_rows=0,
        n_baskets=int(n_rows_per_day.sum()) // 2,
        repeated_share=0.18,
        n_label_customers=50,
    )


def levels(gates: list[Gate]) -> dict[str, str]:
    return {gate.gate: gate.level for gate in gates if gate.level != "ok"}


def steady(n_days: int = 140, n_rows: int = 1000) -> Counts:
    return np.full(n_days, n_rows, dtype=np.int64)


def test_steady_sales_pass_every_gate() -> None:
    gates = check_purchases(purchases_of(steady()))
    assert levels(gates) == {}
    assert {gate.gate for gate in gates} < {*ACCEPTABLE_GATES, "history_window", "label_window"}


@pytest.mark.parametrize("rows_per_day", [0.7, 3, 40, 1000])
@pytest.mark.parametrize("shop", range(25))
def test_chance_alone_never_fails_a_gate(rows_per_day: float, shop: int) -> None:
    """Baskets of geometric size on a weekly rhythm, from a shop of 20 customers to one of thousands."""
    rng = np.random.default_rng(shop)
    n_baskets = rng.poisson(rows_per_day / 3.5 * np.tile([0.7, 0.8, 0.9, 1, 1.2, 1.6, 0.8], 60))
    per_day = np.array([rng.geometric(1 / 3.5, n).sum() for n in n_baskets], dtype=np.int64)
    per_day[[0, -1]] += 1  # the data begins and ends with a purchase
    purchases = replace(purchases_of(per_day), n_baskets=int(n_baskets.sum()) + 2)
    gates = [gate for gate in check_purchases(purchases) if gate.gate != "label_window"]
    assert levels(gates) == {}


def test_an_empty_label_week_fails_and_says_which() -> None:
    per_day = steady()
    per_day[-20:-13] = 0
    gate = check_purchases(purchases_of(per_day, n_days_before_end=20))[1]
    assert (gate.gate, gate.level, gate.value) == ("label_window", "failed", 0)
    assert gate.message == (
        "nobody bought in the label window 2020-04-30 to 2020-05-06; choose an earlier cutoff_date or ingest that week"
    )


def test_a_label_week_that_the_data_covers_in_part_is_warned_of() -> None:
    gate = check_purchases(purchases_of(steady(), n_days_before_end=3))[1]
    assert gate.level == "warning"
    assert gate.message.endswith("of which the data covers 3 of 7 days")


def test_few_label_customers_are_warned_of() -> None:
    assert levels(check_purchases(replace(purchases_of(steady()), n_label_customers=12))) == {"label_window": "warning"}


def test_an_empty_history_fails() -> None:
    per_day = steady()
    per_day[:-7] = 0
    assert levels(check_purchases(purchases_of(per_day)))["history_window"] == "failed"


@pytest.mark.parametrize(("n_unknown", "level"), [(0, "ok"), (1000, "warning"), (2000, "failed")])
def test_unknown_articles_fail_above_one_percent(n_unknown: int, level: str) -> None:
    purchases = replace(purchases_of(steady()), n_unknown_article_rows=n_unknown)  # of 140,000 and these
    (gate,) = (gate for gate in check_purchases(purchases) if gate.gate == "unknown_articles")
    assert gate.level == level
    assert gate.value == round(n_unknown / (140_000 + n_unknown), 6)


@pytest.mark.parametrize(("n_unknown", "level"), [(5000, "ok"), (50_000, "warning"), (80_000, "failed")])
def test_guests_are_no_fault_until_they_are_most_rows(n_unknown: int, level: str) -> None:
    purchases = replace(purchases_of(steady()), n_unknown_customer_rows=n_unknown)
    assert levels(check_purchases(purchases)).get("unknown_customers", "ok") == level


@pytest.mark.parametrize(("n_days", "level"), [(1, "warning"), (6, "warning"), (7, "failed"), (60, "failed")])
def test_a_lost_week_fails_and_a_holiday_is_warned_of(n_days: int, level: str) -> None:
    per_day = steady(300)
    per_day[100 : 100 + n_days] = 0
    assert levels(check_purchases(purchases_of(per_day))) == {"date_gaps": level}


def test_three_lost_days_fail_when_they_are_recent() -> None:
    per_day = steady()
    per_day[-14:-11] = 0
    gates = check_purchases(purchases_of(per_day))
    assert levels(gates) == {"date_gaps": "warning", "recent_date_gaps": "failed"}
    (gate,) = (gate for gate in gates if gate.gate == "recent_date_gaps")
    assert (gate.value, gate.threshold) == (3, 2)
    assert gate.message.startswith("no sale on 3 days from 2020-05-06, about 2912 were due; 1 such gap;")


@pytest.mark.parametrize(
    ("n_rows", "found"), [(300, {"volume_collapse": "warning"}), (150, {"volume_collapse": "failed"})]
)
def test_a_last_day_that_was_cut_off_is_noticed(n_rows: int, found: dict[str, str]) -> None:
    per_day = steady()
    per_day[-1] = n_rows
    assert levels(check_purchases(purchases_of(per_day))) == found


@pytest.mark.parametrize(
    ("n_rows", "found"),
    [(2900, {}), (4400, {"volume_explosion": "warning"}), (11_000, {"volume_explosion": "failed"})],
)
def test_a_sale_passes_and_an_explosion_fails(n_rows: int, found: dict[str, str]) -> None:
    per_day = steady()
    per_day[-3] = n_rows
    assert levels(check_purchases(purchases_of(per_day))) == found


def test_a_weekday_on_which_the_shop_is_closed_is_not_compared() -> None:
    per_day = steady()
    per_day[6::7] = 0
    per_day[-1] = 500  # a Sunday opening
    assert levels(check_purchases(purchases_of(per_day))) == {}


def test_keys_that_occur_twice_fail() -> None:
    assert levels(check_keys(0, 0)) == {}
    gates = check_keys(2, 1)
    assert levels(gates) == {"duplicate_articles": "failed", "duplicate_customers": "failed"}
    assert gates[0].message == "2 article_ids occur more than once in articles; keep one row for each"


def test_an_accepted_gate_passes_and_says_so() -> None:
    failed, warned = Gate("date_gaps", "failed", 9, 6, "x"), Gate("volume_collapse", "warning", 0.4, 0.2, "y")
    accepted = accept([failed, warned], ["date_gaps", "volume_collapse"])
    assert [(gate.level, gate.passed) for gate in accepted] == [("accepted", True), ("warning", True)]
    assert accept([failed], ["volume_collapse"]) == [failed]


def test_accepted_gates_are_read_from_one_text() -> None:
    assert parse_accepted("") == ()
    assert parse_accepted(" volume_collapse,date_gaps, ") == ("date_gaps", "volume_collapse")


@pytest.mark.parametrize(("text", "hint"), [("date_gap", "did you mean 'date_gaps'?"), ("label_window", "nobody can")])
def test_a_gate_that_cannot_be_accepted_is_refused(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_accepted(text)
    assert f"accept-gates names {text!r}" in str(caught.value)
    assert hint in str(caught.value)


def test_a_refusal_is_a_table_of_what_failed() -> None:
    text = refusal(
        [
            Gate("date_gaps", "failed", 9, 6, "no sale on 9 days"),
            Gate("label_window", "failed", 0, 1, "nobody bought"),
            Gate("volume_collapse", "warning", 0.4, 0.2, "y"),
        ],
        "./lake/processed/r1/quality_report.json",
    )
    first, *rows, last = text.splitlines()
    assert first == "2 of the quality gates refused the data"
    assert [row.split()[:3] for row in rows if row.split()[0].isidentifier()] == [
        ["gate", "value", "threshold"],
        ["date_gaps", "9", "6"],
        ["label_window", "0", "1"],
    ]
    assert "volume_collapse" not in text
    assert last == (
        "all figures: ./lake/processed/r1/quality_report.json; "
        "if the data is right as it is, run again with -p accept-gates=date_gaps"
    )


@pytest.mark.parametrize(("share", "level"), [(0.18, None), (0.61, "warning"), (1.0, "failed")])
def test_a_doubled_export_is_noticed(share: float, level: str | None) -> None:
    gates = check_purchases(replace(purchases_of(steady()), repeated_share=share))
    assert levels(gates).get("doubled_rows") == level
    if level:
        (gate,) = (gate for gate in gates if gate.gate == "doubled_rows")
        assert "appended twice" in gate.message
