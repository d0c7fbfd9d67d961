"""The page shell in a real Chromium."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest

from pipelines.report.blocks import Chart, Section, Table, Text
from pipelines.report.page import render_page

pytestmark = pytest.mark.browser


def write_page(folder: Path, *blocks: Any) -> Path:
    path = folder / "report.html"
    path.write_text(render_page("Title", "Subtitle", [Section("One", list(blocks))]), encoding="utf-8")
    return path


def line_chart() -> Chart:
    frame = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=30), "n": range(30)})
    spec = alt.Chart(frame, width="container", height=200).mark_line(style="main-line").encode(x="day:T", y="n:Q")
    return Chart("Sales", spec.to_dict())


@pytest.mark.parametrize("dark", [False, True])
def test_charts_are_drawn_without_network_or_console_noise(
    tmp_path: Path, visit: Callable[..., Any], dark: bool
) -> None:
    seen = visit(write_page(tmp_path, line_chart(), Text("words")), dark=dark)
    assert seen.state == "ready"
    assert seen.console == []
    assert seen.requests == []
    assert [figure["title"] for figure in seen.figures] == ["Sales"]
    assert seen.figures[0]["width"] > 300
    assert seen.figures[0]["marks"] >= 1


def test_phone_does_not_scroll_sideways(tmp_path: Path, visit: Callable[..., Any]) -> None:
    wide_table = Table([f"a rather long column {n}" for n in range(12)], [["cell"] * 12])
    seen = visit(write_page(tmp_path, line_chart(), wide_table), width=375)
    assert seen.overflow_px <= 0
    assert seen.figures[0]["width"] <= 375


def test_broken_chart_is_reported_not_hidden(tmp_path: Path, visit: Callable[..., Any]) -> None:
    seen = visit(write_page(tmp_path, Chart("Broken", {"mark": "no such mark", "encoding": {}}), line_chart()))
    assert seen.state == "failed"
    assert any(line.startswith("error") for line in seen.console)
    assert seen.figures[1]["marks"] >= 1
