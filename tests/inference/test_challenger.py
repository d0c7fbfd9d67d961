"""A second model: for its share of the customers, or in the shadow."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.app import create_service
from inference.challenger import overlap_at_12, rank_correlation, share_of
from inference.champion import Source, open_source
from inference.errors import SettingsInvalid
from inference.settings import Settings
from tests.inference.conftest import Server
from tests.inference.test_server import metric
from tests.inference.tiny_bundle import write_bundle

StartServer = Callable[..., Server]


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path]:
    return write_bundle(tmp_path / "b" / "v1", best=1), write_bundle(
        tmp_path / "b" / "v2", version="v2", best=2, seed=9
    )


def loaded(server: Server) -> bool:
    return bool(server.get("/healthz").json().get("challenger_version") == "v2")


def test_the_challenger_answers_its_share_of_the_customers_and_always_the_same_ones(
    start_server: StartServer, bundles: tuple[Path, Path]
) -> None:
    champion, challenger = map(str, bundles)
    server = start_server(MODEL_URI=champion, CHALLENGER_URI=challenger, CHALLENGER_SHARE="0.3")
    server.wait_for(lambda: loaded(server), "the challenger")
    customers = [f"customer-{n}" for n in range(200)]
    entries = {"customers": [{"customer_id": customer_id, "top_k": 1} for customer_id in customers]}
    versions = [answer["model_version"] for answer in server.predict(entries).json()["answers"]]
    assert versions == ["v2" if share_of(customer_id) < 0.3 else "v1" for customer_id in customers]
    assert 40 <= Counter(versions)["v2"] <= 80
    assert versions == [answer["model_version"] for answer in server.predict(entries).json()["answers"]]
    assert {server.predict({}).json()["model_version"] for _ in range(5)} == {"v1"}
    assert metric(server, "challenger_info", version="v2") == 1
    assert metric(server, "model_info", version="v1") == 1


def test_a_shadow_is_compared_and_never_answers(start_server: StartServer, bundles: tuple[Path, Path]) -> None:
    champion, challenger = map(str, bundles)
    server = start_server(MODEL_URI=champion, CHALLENGER_URI=challenger, SHADOW_SHARE="1")
    server.wait_for(lambda: loaded(server), "the challenger")
    assert {server.predict({"customer_id": f"c{n}"}).json()["model_version"] for n in range(8)} == {"v1"}
    server.wait_for(lambda: metric(server, "shadow_requests_total", outcome="compared") == 8, "the comparisons")
    assert metric(server, "shadow_overlap_at_12_count") == 8
    assert 0 < metric(server, "shadow_overlap_at_12_sum") < 8
    assert metric(server, "shadow_rank_correlation_count") == 8


def test_a_challenger_that_cannot_be_loaded_leaves_everything_to_the_champion(
    start_server: StartServer, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    server = start_server(MODEL_URI=str(bundles[0]), CHALLENGER_URI=str(tmp_path / "none"), CHALLENGER_SHARE="1")
    server.wait_for_version("v1")
    assert server.predict({"customer_id": "c"}).json()["model_version"] == "v1"
    server.wait_for(lambda: "no champion" in (server.get("/healthz").json()["challenger_refusal"] or ""), "the reason")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shadow_share": 0.1}, "CHALLENGER_SHARE and SHADOW_SHARE need CHALLENGER_URI"),
        ({"challenger_uri": "x"}, "CHALLENGER_URI=x does nothing by itself"),
    ],
)
def test_half_a_challenger_is_refused_at_the_start(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsInvalid, match=message):
        create_service(Settings(**settings))  # type: ignore[arg-type]


def test_overlap_counts_the_first_twelve_whatever_their_order() -> None:
    first = [f"a{n}" for n in range(20)]
    assert overlap_at_12(first, first[::-1][8:]) == 1.0
    assert overlap_at_12(first, first[6:]) == 0.5
    assert overlap_at_12([], []) == 1.0
    assert overlap_at_12(["a"], []) == 0.0


def test_rank_correlation_is_spearmans_over_what_both_answer() -> None:
    # ranks of a, b, c, d: 1 2 3 4 against 2 1 4 3, so that 1 - 6·4 / (4·15)
    assert rank_correlation(["a", "b", "x", "c", "d"], ["b", "a", "d", "c"]) == pytest.approx(0.6)
    assert rank_correlation(["a", "b"], ["b", "c"]) is None


def test_challenger_is_cached_below_the_cache_of_the_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is the one folder of the pod that both may write to."""
    caches = []

    def note(uri: str, cache: Path) -> Source:
        caches.append(cache)
        return open_source(uri, cache)

    monkeypatch.setattr("inference.challenge.open_source", note)
    create_service(Settings(model_cache=tmp_path / "models", challenger_uri="s3://bucket/registry", shadow_share=0.1))
    assert caches == [tmp_path / "models" / "challenger"]
