"""The training report: from what a real small run measured, and from every lack that a run can have."""

import copy
import doctest
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.manifest import Manifest
from pipelines.gate import decide
from pipelines.recommender import report_words
from pipelines.recommender.ablation import ablate
from pipelines.recommender.examples import examples
from pipelines.recommender.measurements import headline, measured
from pipelines.recommender.report import render_training_report
from pipelines.recommender.training import Trainer, set_up_torch
from pipelines.report.numbers import NBSP
from tests.pipelines.recommender.small_shop import KNOBS, random_shop

Document = dict[str, Any]
CUTOFF_DAY = 63
FIGURES = [
    "What the model gains over each rival",
    "By time since the last purchase",
    "By age",
    "By channel",
    "Gain over the best rule, by slice",
    "Gain over the champion, by slice",
    "map_at_12 by label week",
    "Loss by epoch",
    "Validation map_at_12 by epoch",
    "What each signal adds",
    "How much of each answer stays",
]


@pytest.fixture(scope="module")
def measured_run() -> Document:
    """What a run with a champion and one more cutoff writes to metrics.json, read back."""
    set_up_torch()
    shop = random_shop()
    trainer = Trainer(shop.interactions, shop.catalogue, shop.segments, 7, KNOBS)
    evaluated = [trainer.evaluate_at(CUTOFF_DAY - 7 * number) for number in range(2)]
    nothing = evaluated[0].model
    champion = ("night-1", replace(nothing, hits_NK=np.zeros_like(nothing.hits_NK)))
    rivals, held_against, document = measured(evaluated, shop.interactions, shop.segments, champion, seed=7)
    metrics, baselines = headline(evaluated)
    decision = decide(float(metrics["backtest_map_at_12"] or 0.0), rivals, held_against, 0.0)
    recommender = trainer.recommender(evaluated[0].fit, evaluated[0].tables)

    def named(articles: list[int]) -> list[dict[str, Any]]:
        names = (
            {"article_id": shop.catalogue.article_ids[a], "name": f"Article {a}", "colour": "Red"} for a in articles
        )
        return [one | {"product_type": None} for one in names]

    shown = examples(trainer, recommender, 70, evaluated[0].week.customers_N[:3], KNOBS.max_history)
    document["examples"] = [
        one | {"customer": "aaaa…", "history": named(one["history"]), "recommended": named(one["recommended"])}
        for one in shown
    ]
    document["ablation"] = ablate(trainer, evaluated[0])
    document["serving_cost"] = {"ms_per_answer": 0.41, "ms_per_answer_p99": 0.9, "rss_mib": 84.2, "n_requests": 500}
    document["changes"] = {"since": "night-1", "customers": changed(document["examples"])}
    manifest = Manifest.model_validate(
        {
            "version": "night-2",
            "cutoff_date": "2020-03-04",
            "trained_through": "2020-03-10",
            "n_articles": 300,
            "n_live": 280,
            "n_customers": 40,
            "max_history": KNOBS.max_history,
            "files": {"model.onnx": {"sha256": "0" * 64, "size_bytes": 1_500_000}},
            "metrics": metrics,
            "baselines": baselines,
            "parity": {
                "n_customers": 256,
                "largest_score_gap": 1.5e-6,
                "top_12_overlap": 1.0,
                "map_at_12_served": 0.0213,
                "map_at_12_torch": 0.0213,
                "n_label_customers": 40,
            },
            "source": {"uri": "/data/shop", "kind": "folder", "files": {"articles.csv": {"sha256": "ab" * 32}}},
            "parent": "night-1",
            "git_commit": "0123456789abcdef",
            "inputs": {"processed": "f" * 64},
            "parameters": KNOBS.model_dump(),
        }
    )
    document |= {
        "bundle": manifest.model_dump(mode="json"),
        "is_promoted": decision.is_promoted,
        "reasons": decision.reasons,
        "first_day": "2020-01-01",
        "cutoff_date": "2020-03-04",
        "last_day": "2020-03-10",
        "horizon_days": 7,
    }
    read_back: Document = json.loads(json.dumps(document, sort_keys=True))
    return read_back


def changed(examples: list[Document]) -> list[Document]:
    """As changes.py writes it: of each example's answers the last one is new."""
    return [
        {
            "customer": one["customer"],
            "n_purchases": one["n_purchases"],
            "overlap": 11,
            "before": [*one["recommended"][:11], one["recommended"][11] | {"article_id": "old", "name": "Old hat"}],
            "after": one["recommended"],
        }
        for one in examples
    ]


@pytest.fixture
def document(measured_run: Document) -> Document:
    return copy.deepcopy(measured_run)


@pytest.fixture
def see(tmp_path: Path, visit: Callable[..., Any]) -> Callable[..., Any]:
    def look(document: Document, **options: Any) -> Any:
        path = tmp_path / "report.html"
        path.write_text(render_training_report(document), encoding="utf-8")
        return visit(path, **options)

    return look


def without_numbers(value: Any) -> Any:
    """Replace every fraction by nan, as a run on nothing but cold customers could."""
    if isinstance(value, dict):
        return {key: without_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_numbers(one) for one in value]
    return math.nan if isinstance(value, float) else value


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(report_words).failed == 0


@pytest.mark.browser
@pytest.mark.parametrize(("dark", "width"), [(True, 1280), (False, 375)])
def test_every_figure_is_drawn(document: Document, see: Callable[..., Any], dark: bool, width: int) -> None:
    seen = see(document, dark=dark, width=width)
    assert (seen.state, seen.console, seen.requests) == ("ready", [], [])
    assert [figure["title"] for figure in seen.figures] == FIGURES
    assert [figure["title"] for figure in seen.figures if figure["marks"] < 2] == []
    assert [figure["title"] for figure in seen.figures if figure["height"] < 100 or figure["width"] < 250] == []
    assert seen.overflow_px <= 0


def no_champion(document: Document) -> None:
    del document["champion"], document["changes"]


def no_backtest(document: Document) -> None:
    del document["weeks"][1:]


def one_epoch_without_validation(document: Document) -> None:
    document["curve"] = [document["curve"][0] | {"validation_loss": None, "validation_map_at_12": None}]
    document["best_epoch"] = 1


def nothing_measurable(document: Document) -> None:
    for name in ("metrics", "differences", "slices", "weeks", "curve", "champion", "ablation"):
        document[name] = without_numbers(document[name])
    document["champion"]["version"] = "night-1"
    document["bundle"]["metrics"] = dict.fromkeys(document["bundle"]["metrics"])


def everything_zero(document: Document) -> None:
    for summary in document["metrics"].values():
        for interval in summary.values():
            interval |= {"mean": 0.0, "low": 0.0, "high": 0.0}
    for one in (*document["slices"].values(), *document["weeks"]):
        one["map_at_12"] = dict.fromkeys(one["map_at_12"], 0.0)
    for interval in (*document["differences"].values(), document["champion"]["difference"]):
        interval |= {"mean": 0.0, "low": 0.0, "high": 0.0}


def no_ablation(document: Document) -> None:
    del document["ablation"]


def champion_that_cannot_be_asked(document: Document) -> None:
    document["changes"] = {"since": "night-1", "error": "bundle night-1 is damaged: <b>"}


def no_cost(document: Document) -> None:
    document["serving_cost"] = {"error": ["MemoryError"]}


def no_examples(document: Document) -> None:
    document["examples"] = []


LACKS: dict[str, tuple[Callable[[Document], None], set[str], str]] = {
    "no champion": (
        no_champion,
        {"Gain over the champion, by slice", "How much of each answer stays"},
        "No champion was compared with it.",
    ),
    "no ablation": (no_ablation, {"What each signal adds"}, "What the model gains over each rival"),
    "a champion that cannot be asked": (
        champion_that_cannot_be_asked,
        {"How much of each answer stays"},
        "Champion night-1 could not be asked: bundle night-1 is damaged: &lt;b&gt;.",
    ),
    "no cost": (no_cost, set(), "What an answer costs could not be measured"),
    "no backtest": (no_backtest, {"map_at_12 by label week"}, "who bought in the label week"),
    "one epoch": (
        one_epoch_without_validation,
        {"Validation map_at_12 by epoch"},
        "No validation week had customers to measure on",
    ),
    "nothing measurable": (
        nothing_measurable,
        set(FIGURES) - {"How much of each answer stays"},
        "map_at_12 could not be measured.",
    ),
    "everything zero": (everything_zero, set(), "the same for everyone"),
    "no examples": (no_examples, set(), "The run wrote no examples."),
}


@pytest.mark.browser
@pytest.mark.parametrize("name", LACKS)
def test_a_run_that_lacks_something_has_a_report(
    name: str, document: Document, see: Callable[..., Any], tmp_path: Path
) -> None:
    take_away, gone, words = LACKS[name]
    take_away(document)
    seen = see(document)
    assert (seen.state, seen.console) == ("ready", [])
    assert [figure["title"] for figure in seen.figures] == [title for title in FIGURES if title not in gone]
    assert [figure["title"] for figure in seen.figures if figure["marks"] < 1] == []
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert words in html
    assert ">nan" not in html.lower().split('id="specs"')[0]


def test_order_of_keys_changes_nothing(document: Document) -> None:
    def reverse(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reverse(value[key]) for key in reversed(value)}
        return [reverse(one) for one in value] if isinstance(value, list) else value

    assert render_training_report(reverse(document)) == render_training_report(document)


def test_text_of_the_shop_cannot_become_markup(document: Document) -> None:
    document["examples"][0]["recommended"][0]["name"] = document["reasons"][0] = "<script>alert(1)</script>"
    assert "<script>alert" not in render_training_report(document)


@pytest.mark.parametrize(
    ("is_promoted", "champion", "headline"),
    [
        (True, "night-1", "Promoted: this model is the champion and answers customers."),
        (True, None, "Promoted: this model is the champion and answers customers."),
        (False, "night-1", "Not promoted: champion night-1 goes on answering customers."),
        (False, None, "Not promoted: the registry keeps the bundle, and nothing that customers see changes."),
    ],
)
def test_verdict_says_who_answers(document: Document, is_promoted: bool, champion: str | None, headline: str) -> None:
    document["is_promoted"] = is_promoted
    if champion is None:
        del document["champion"]
    assert report_words.verdict(document)[0] == headline


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.001, 0.003, "is more than chance"),
        (-0.001, 0.005, "may be chance"),
        (-0.003, -0.001, "is more than chance"),
        (0.0, 0.0, "both score the same in each of 9 customer-weeks"),
    ],
)
def test_an_interval_across_zero_may_be_chance(document: Document, low: float, high: float, words: str) -> None:
    document["champion"]["difference"] = {"mean": (low + high) / 2, "low": low, "high": high, "n": 9}
    _, because = report_words.verdict(document)
    assert because.endswith(f"{words}.")


def test_answers_that_stay_as_they_are_need_no_drawing(document: Document) -> None:
    for one in document["changes"]["customers"]:
        one["after"], one["overlap"] = one["before"], 12
    html = render_training_report(document)
    assert "Both answer them alike, article by article and in the same order." in html
    assert "How much of each answer stays" not in html


def test_verdict_and_every_reason_of_the_gate_stand_on_top(document: Document) -> None:
    document["reasons"] = ["not better than champion night-1 beyond the noise: difference -0.0010", "another reason"]
    html = render_training_report(document)
    assert "<strong>Not better than champion night-1 beyond the noise</strong> <span>Difference −0.0010.</span>" in html
    assert "<strong>Another reason</strong>" in html
    headline, because = report_words.verdict(document)
    assert html.index(f"<strong>{headline}</strong> {because}") < html.index('class="card')


def test_answers_are_marked_by_all_purchases_not_only_the_shown(document: Document) -> None:
    one = document["examples"][0]
    one["marks"] = ["repurchase", "variant", *[None] * 10]
    one["history"], one["n_purchases"] = one["history"][:1], 30
    document["examples"] = [one]
    html = render_training_report(document)
    assert "30\u00a0purchases; answers: 1 bought before, 1 variant, 10 new" in html
    assert "The newest 1 of 30\u00a0purchases." in html
    assert html.count('<span class="badge note">bought before</span>') == 1
    assert html.count('<span class="badge good">variant</span>') == 1


def test_every_slice_has_its_gain_and_interval(document: Document) -> None:
    html = render_training_report(document)
    best = report_words.rules_of(document)[0]
    for name, values in document["slices"].items():
        gain = values["differences"][best]
        low, high = (report_words.signed(gain[end]) for end in ("low", "high"))
        assert f"<td>{name}</td>" in html
        assert f"{report_words.signed(gain['mean'])}<small>{low} to {high}</small>" in html


def test_the_certificate_is_told_in_words(document: Document) -> None:
    html = render_training_report(document)
    for words in ("map_at_12, served", "0.0213", "quantised", "median of an answer", "0.41"):
        assert words in html
    assert "abababababab" in html  # what the source's file was


def test_articles_that_go_and_come_are_named(document: Document) -> None:
    one = document["changes"]["customers"][0]
    html = render_training_report(document)
    assert "Old hat (Red)" in html
    assert f"{one['after'][11]['name']} (Red)" in html
    assert "what champion night-1 answers beside what this bundle answers. Of 12 articles 11.0 stay on average" in html


def test_weak_evidence_stands_out(document: Document) -> None:
    document["reasons"] = ["weak evidence: over 30 customer-weeks the gain may be chance"]
    html = render_training_report(document)
    assert "<strong>Weak evidence</strong>" in html
    assert '<li class="warning">' in html


def test_repeated_purchases_are_one_line(document: Document) -> None:
    one = document["examples"][0]
    article = {"article_id": "0108775015", "name": "Strap top", "colour": "Black", "product_type": "Vest top"}
    one["history"] = [article, article]
    assert "Strap top ×2<small>Vest top · Black</small>" in render_training_report(document)


def test_the_champions_own_week_is_named(document: Document) -> None:
    ours = document["weeks"][0]["map_at_12"]["model"]
    html = render_training_report(document)
    assert f"this model has {ours:.4f} there" in html
    assert f"{ours:.4f} against 0.0000<" in html
    document["champion"]["days_behind"] = 14
    assert f"{ours:.4f} against 0.0000, 14{NBSP}days behind<" in render_training_report(document)
