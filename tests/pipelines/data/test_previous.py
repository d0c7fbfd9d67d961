from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.data.previous import DataSize, accepted_key, check_drop, read_accepted, remember_accepted
from pipelines.errors import ArtefactError
from pipelines.lake import Lake


def size_of(raw: str, n_transactions: int = 100_000, n_last_week_rows: int = 2000, n_articles: int = 500) -> DataSize:
    return DataSize(
        raw_sha256=raw,
        run_id=f"run-{raw}",
        n_transactions=n_transactions,
        n_last_week_rows=n_last_week_rows,
        n_articles=n_articles,
        n_customers=900,
    )


def levels(size: DataSize, previous: DataSize | None) -> dict[str, str]:
    return {gate.gate: gate.level for gate in check_drop(size, previous) if gate.level != "ok"}


def test_the_first_delivery_has_nothing_to_be_compared_with(lake: Lake) -> None:
    accepted = read_accepted(lake, "./shop")
    assert accepted.before("a") is None
    assert levels(size_of("a"), None) == {}


def test_a_new_delivery_is_compared_with_the_last_accepted_one(lake: Lake) -> None:
    for raw in "ab":
        remember_accepted(lake, "./shop", size_of(raw))
    assert read_accepted(lake, "./shop").before("c") == size_of("b")


def test_the_same_delivery_is_always_compared_with_the_same(lake: Lake) -> None:
    for raw in "abca":
        remember_accepted(lake, "./shop", size_of(raw))
    accepted = read_accepted(lake, "./shop")
    assert [accepted.before(raw) for raw in "abc"] == [None, size_of("a"), size_of("b")]


def test_sources_are_kept_apart(lake: Lake) -> None:
    remember_accepted(lake, "./shop", size_of("a"))
    assert read_accepted(lake, "./other").before("b") is None


def test_of_runs_that_finish_at_once_none_is_lost(lake: Lake) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda raw: remember_accepted(lake, "./shop", size_of(raw)), "abcdef"))
    assert sorted(size.raw_sha256 for size in read_accepted(lake, "./shop").sizes) == list("abcdef")


def test_a_damaged_file_is_named(lake: Lake) -> None:
    lake.write_bytes(accepted_key("./shop"), b'{"source": "./shop", "sizes": [{"run_id": 3}]}')
    with pytest.raises(ArtefactError, match=r"index/accepted/\w+\.json is damaged: sizes\.0\.raw_sha256: .*delete it"):
        read_accepted(lake, "./shop")


@pytest.mark.parametrize(("now", "level"), [(120_000, "ok"), (99_500, "ok"), (95_000, "warning"), (89_999, "failed")])
def test_a_history_that_shrinks_by_a_tenth_fails(now: int, level: str) -> None:
    assert levels(size_of("b", now), size_of("a")).get("drop_total_rows", "ok") == level


def test_a_drop_says_from_what_to_what() -> None:
    gate = check_drop(size_of("b", 40_000), size_of("a"))[0]
    assert (gate.value, gate.threshold) == (0.4, 0.9)
    assert gate.message == "n_transactions is 40000, run run-a had 100000; look at what the source lost"


@pytest.mark.parametrize(
    ("before", "now", "level"),
    [(2000, 1100, "ok"), (2000, 600, "warning"), (2000, 300, "failed"), (60, 3, "ok"), (300, 30, "failed")],
)
def test_the_last_week_may_fall_as_far_as_chance_takes_it(before: int, now: int, level: str) -> None:
    found = levels(size_of("b", n_last_week_rows=now), size_of("a", n_last_week_rows=before))
    assert found.get("drop_last_week_rows", "ok") == level


def test_half_a_catalogue_fails() -> None:
    assert levels(size_of("b", n_articles=249), size_of("a")) == {"drop_articles": "failed"}
    assert levels(size_of("b", n_articles=251), size_of("a")) == {"drop_articles": "warning"}
