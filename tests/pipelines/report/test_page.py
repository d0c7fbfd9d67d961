"""The page shell: what is on it, what can never break it, and that nothing on it needs a network."""

import altair as alt
import pandas as pd
import pytest
from markupsafe import Markup

from pipelines.report.blocks import (
    Badge,
    Card,
    Cards,
    Chart,
    Finding,
    Findings,
    Fold,
    Meter,
    Section,
    Stack,
    Table,
    Text,
)
from pipelines.report.page import render_page


def bar_chart(label: str = "a") -> dict[str, object]:
    frame = pd.DataFrame({"label": [label, "b"], "n": [1, 2]})
    spec: dict[str, object] = alt.Chart(frame, width="container").mark_bar().encode(x="n:Q", y="label:N").to_dict()
    return spec


def page(*blocks: object, **options: object) -> str:
    return render_page("A title", "a subtitle", [Section("Sales & more", list(blocks))], **options)  # type: ignore[arg-type]


def test_every_block_is_on_the_page() -> None:
    html = page(
        Cards([Card("Customers", "1,364", note="who bought")]),
        Text("First paragraph.\n\nSecond paragraph."),
        Findings([Finding("It fell", "by a third", tone="warning")]),
        Table(
            ["who", "share"], [[Badge("passed", "good"), Meter("40 %", 0.4)]], title="Checks", numeric=frozenset({1})
        ),
        Chart("Bars", bar_chart(), caption="What it shows"),
    )
    for text in ("1,364", "who bought", "<p>Second paragraph.</p>", "It fell", "by a third", "passed", "width:40.0%"):
        assert text in html
    assert html.count('class="plot"') == 1
    assert '<a href="#sales-more">' in html
    assert '<section id="sales-more">' in html


def test_folded_tables_share_a_row_behind_one_line() -> None:
    tables = [Table([name], [[Stack(name, "quieter")]], half=True) for name in ("bought", "recommended")]
    html = page(Fold("A customer", tables, "3 purchases"), Fold("Another", tables, is_open=True))
    assert "<summary><strong>A customer</strong> <span>3 purchases</span></summary>" in html
    assert html.count('<details class="panel">') == html.count('<details class="panel" open>') == 1
    assert html.count('<div class="panel half">') == 4
    assert "<td>bought<small>quieter</small></td>" in html


def test_text_from_data_cannot_become_markup() -> None:
    hostile = "</script><script>alert(1)</script>"
    fold = Fold(hostile, [Table(["x"], [[Stack(hostile, hostile)]])], hostile)
    html = page(Text(hostile), fold, Table(["x"], [[hostile]]), Chart(hostile, bar_chart(hostile)), footer=hostile)
    assert "<script>alert" not in html
    assert html.count("</script>") == 4  # specs, configs, Vega and the page's own


def test_markup_is_kept_where_it_is_meant() -> None:
    assert "<p><em>yes</em></p>" in page(Text(Markup("<em>yes</em>")))


def test_same_blocks_give_the_same_bytes() -> None:
    assert page(Chart("Bars", bar_chart())) == page(Chart("Bars", bar_chart()))


def test_sections_of_the_same_title_keep_apart() -> None:
    html = render_page("t", "s", [Section("Price", []), Section("Price", []), Section("价格", [])])
    assert ['id="price"' in html, 'id="price-2"' in html, 'id="section"' in html] == [True, True, True]


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = page(Chart("Bars", bar_chart()))
    assert "default-src 'none'" in html
    assert "$schema" not in html.split('id="specs"')[1].split("</script>")[0]


def test_short_row_is_refused_with_its_number() -> None:
    with pytest.raises(ValueError, match="table 'Checks' row 2: 1 cells for 2 columns"):
        Table(["a", "b"], [["1", "2"], ["1"]], title="Checks")


def test_nan_in_a_chart_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        page(Chart("Bars", {"data": {"values": [{"x": float("nan")}]}}))
