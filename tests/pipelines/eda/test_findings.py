"""Each rule says its one thing when it is there, and nothing when it is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.data.previous import DataSize, check_drop
from pipelines.eda.drift import Drift
from pipelines.eda.findings.find import find_all
from pipelines.eda.findings.observation import Observation
from pipelines.eda.findings.sales import unusual_days
from pipelines.eda.statistics import gather
from pipelines.report.numbers import NBSP
from tests.pipelines.eda.processed_tables import dataset_of, write_rows

N_DAYS = 84
SIZE = DataSize(raw_sha256="0" * 64, run_id="r", n_transactions=9, n_last_week_rows=1, n_articles=3, n_customers=2)


def steady_rows(per_day: int = 30) -> list[tuple[int, int, int, float, int]]:
    """Every day the same: 30 customers buy one of 10 articles each, by turns in stores and online."""
    return [
        (customer, day, (customer + day) % 10, 1.0, 1 + customer % 2)
        for day in range(N_DAYS)
        for customer in range(per_day)
    ]


def observe(
    folder: Path,
    rows: list[tuple[int, int, int, float, int]],
    *,
    quality: dict[str, Any] | None = None,
    raw_facts: dict[str, Any] | None = None,
    drifts: dict[str, list[Drift]] | None = None,
    n_days: int = N_DAYS,
    ages: list[float | None] | None = None,
) -> dict[str, Observation]:
    ages = ages or [30.0] * (1 + max(row[0] for row in rows))
    split = write_rows(folder, rows, n_articles=1 + max(row[2] for row in rows), ages=ages, n_days=n_days)
    found = find_all(gather(dataset_of(folder, split)), quality or {}, raw_facts or {}, drifts or {})
    return {observation.kind: observation for observation in found}


def words(observation: Observation) -> str:
    return f"{observation.headline} {observation.detail}".replace(NBSP, " ")


def test_a_steady_shop_raises_no_alarm(tmp_path: Path) -> None:
    found = observe(tmp_path, steady_rows())
    alarms = {kind for kind, observation in found.items() if observation.tone in ("warning", "bad")}
    assert alarms == {"short_data"}


def test_a_spike_a_slump_and_a_day_without_sales_are_named(tmp_path: Path) -> None:
    rows = [row for row in steady_rows() if not (row[1] == 40 and row[0] > 2) and row[1] != 60]
    rows += [(customer, 20, 3, 1.0, 1) for customer in range(30) for _ in range(3)]
    found = observe(tmp_path, rows)
    assert (
        words(found["days_high"]) == "1 day sold far more than usual. Sun 21 Jun 2020: 120 instead of about 30 (4.0×)."
    )
    assert words(found["days_low"]) == "1 day sold far less than usual. Sat 11 Jul 2020: 3 instead of about 30 (−90 %)."
    assert words(found["days_without_sales"]) == "1 day without any sale. Fri 31 Jul 2020."


def test_random_days_of_a_small_shop_are_not_unusual() -> None:
    rng = np.random.default_rng(5)
    daily = pd.DataFrame({"n_transactions": rng.poisson(15, 400), "usual": np.full(400, 15.0)})
    assert len(unusual_days(daily)) <= 2


def test_weeks_with_closed_stores_are_named(tmp_path: Path) -> None:
    rows = [(c, day, a, price, 2 if 21 <= day < 35 else channel) for c, day, a, price, channel in steady_rows()]
    found = observe(tmp_path, rows)["closed_stores"]
    assert words(found).startswith(
        "2 weeks with next to no sales in stores. Between Mon 22 Jun 2020 and Sun 5 Jul 2020"
    )


def test_an_article_hoarded_by_one_customer_is_named(tmp_path: Path) -> None:
    rows = steady_rows() + [(0, day, 10, 1.0, 2) for day in range(55, 76) for _ in range(20)]
    found = observe(tmp_path, rows)["hoarded_article"]
    assert words(found).startswith("Shirt 10 (0000000110) is a best-seller through 1 customer only.")


def test_one_customer_with_a_tenth_of_all_purchases_is_named(tmp_path: Path) -> None:
    many = [(customer, day, customer % 10, 1.0, 2) for customer in range(600) for day in range(0, N_DAYS, 28)]
    crowd = many + [(600, day, article, 1.0, 2) for day in range(N_DAYS - 60, N_DAYS) for article in range(3)]
    more = [(customer, day, customer % 10, 1.0, 2) for customer in range(601, 6000) for day in range(0, N_DAYS, 28)]
    for folder in ("without", "with", "among more"):
        (tmp_path / folder).mkdir()
    assert "largest_customer" not in observe(tmp_path / "among more", crowd + more)
    assert "largest_customer" not in observe(tmp_path / "without", many)
    found = observe(tmp_path / "with", crowd)["largest_customer"]
    assert found.tone == "warning"
    assert words(found).startswith("9.1 % of all purchases are of one customer.")


def test_articles_new_in_the_label_window_are_counted(tmp_path: Path) -> None:
    rows = [(c, day, a + 10 if day >= N_DAYS - 7 and c < 15 else a, p, ch) for c, day, a, p, ch in steady_rows()]
    found = observe(tmp_path, rows)["new_articles_in_label_window"]
    assert found.tone == "warning"
    assert words(found).startswith("50.0 % of what was bought in the label window")


def test_missing_ages_and_a_single_channel_are_said(tmp_path: Path) -> None:
    rows = [(c, day, a, p, 1) for c, day, a, p, _ in steady_rows()]
    found = observe(tmp_path, rows, ages=[None] * 30)
    assert words(found["ages_missing"]).startswith("Age is unknown for 100.0 %")
    assert "single_channel" in found


def test_gates_and_quarantine_come_first_when_they_are_bad(tmp_path: Path) -> None:
    gate = {"gate": "date_gaps", "passed": False, "value": 9, "threshold": 2, "message": "9 days without sales"}
    facts = {"n_rejected": 100, "n_transactions": 2520, "rejected_by_rule": {"bad date": 60, "unknown article": 40}}
    found = observe(tmp_path, steady_rows(), quality={"gates": [gate]}, raw_facts=facts)
    assert next(iter(found)) == "gate_failed"
    assert words(found["rows_rejected"]) == (
        "100 rows (3.82 %) went to quarantine. By rule: bad date 60, unknown article 40."
    )


@pytest.mark.parametrize(
    ("level", "kind"), [("ok", "gates_passed"), ("warning", "gate_doubtful"), ("accepted", "gate_accepted")]
)
def test_gates_that_passed_say_how(tmp_path: Path, level: str, kind: str) -> None:
    gate = {"gate": "g", "passed": True, "level": level, "value": 1, "threshold": 2, "message": "m"}
    assert kind in observe(tmp_path, steady_rows(), quality={"gates": [gate]})


def test_gates_that_had_nothing_to_compare_with_say_so(tmp_path: Path) -> None:
    gates = [{"gate": "g", "passed": True, "level": "ok", "value": 1, "threshold": 2, "message": "m"}]
    gates += [{**gates[0], "gate": gate.gate, "message": gate.message} for gate in check_drop(SIZE, None)]
    found = observe(tmp_path, steady_rows(), quality={"gates": gates})["gates_passed"]
    assert words(found) == (
        "All 5 data gates passed. See data quality below. 4 of them had no earlier run of this source to compare with."
    )


def test_large_drift_is_said_with_its_largest_move(tmp_path: Path) -> None:
    drift = Drift("garment_group", 0.6, 0.1, 900, 900, (("Swimwear", 0.133, 0.015),))
    found = observe(tmp_path, steady_rows(), drifts={"previous_run": [drift]})["drift_previous_run"]
    assert words(found) == (
        "1 feature moved far against the previous run: garment group. "
        "Most of all garment group: Swimwear went from 13.3 % to 1.5 %."
    )
