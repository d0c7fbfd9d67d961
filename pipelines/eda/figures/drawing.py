"""What the figures share: sizes, the mark of the cutoff, bars with their values written out."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from pipelines.report.blocks import Chart

HEIGHT = 240
ROW_HEIGHT = 24
SHORT_AXIS_DAYS = 120
COUNT = ",d"
PERCENT = ".1%"
COUNT_LABEL = "abs(datum.value) >= 10000 ? format(datum.value, '~s') : format(datum.value, ',~r')"
DATE = "%-d %b %Y"


def chart(
    title: str, drawing: Any, caption: str = "", *, alt_text: str = "", wide: bool = False, height: int = HEIGHT
) -> Chart:
    """Freeze an Altair chart as a block as wide as its place."""
    # Altair would validate every specification against its schema: 0.1 s each. The browser test draws them all.
    spec = drawing.properties(width="container", height=height).to_dict(validate=False)
    return Chart(title, spec, caption, alt_text, wide)


def days_axis(days: pd.Series, ticks: int = 5) -> alt.X:
    """Draw the column of days as time, with days named when the data are short."""
    is_short = (days.max() - days.min()).days < SHORT_AXIS_DAYS
    form = "%-d %b" if is_short else "%b %Y"
    axis = alt.Axis(format=form, tickCount=ticks, labelAngle=0, labelOverlap="parity")
    return alt.X(f"{days.name}:T", title=None, axis=axis)


def count_axis(field: str, title: str, **options: Any) -> alt.Y:
    return alt.Y(f"{field}:Q", title=title, axis=alt.Axis(labelExpr=COUNT_LABEL, tickCount=5), **options)


def percent_axis(field: str, title: str, **options: Any) -> alt.Y:
    return alt.Y(f"{field}:Q", title=title, axis=alt.Axis(format="~%", tickCount=5), **options)


def cutoff_layers(cutoff: dt.date, *, text: str = "cutoff") -> list[alt.Chart]:
    """Mark the first day that the model must not see: a rule, and a word to its left."""
    frame = pd.DataFrame({"date": [pd.Timestamp(cutoff)], "text": [f"{text} {cutoff.day} {cutoff:%b %Y}"]})
    x = alt.X("date:T")
    rule = alt.Chart(frame).mark_rule(style="cutoff-rule").encode(x=x, tooltip=alt.Tooltip("text:N", title="mark"))
    word = alt.Chart(frame).mark_text(style="cutoff-text", align="right", dx=-6, y=6).encode(x=x, text="text:N")
    return [rule, word]


def cutoff_rule(cutoff: dt.date) -> Any:
    """Mark the cutoff on a chart of weeks, where a word would not fit."""
    frame = pd.DataFrame({"week_start": [pd.Timestamp(cutoff)]})
    tooltip = alt.Tooltip("week_start:T", format=DATE, title="cutoff")
    return alt.Chart(frame).mark_rule(style="cutoff-rule").encode(x="week_start:T", tooltip=tooltip)


def share_axis() -> alt.Axis:
    """Label shares up to 100 %; an axis may be longer, to leave room for words behind its bars."""
    return alt.Axis(tickCount=4, labelExpr="datum.value <= 1 ? format(datum.value, '~%') : ''")


def share_bars(
    frame: pd.DataFrame,
    *,
    category: str,
    value: str,
    written: str,
    value_title: str,
    tooltips: Sequence[alt.Tooltip],
    room_for_words: float,
) -> Any:
    """Draw horizontal bars in the frame's order with `written` (a column of text) behind each.

    `room_for_words` is the length of the axis over the longest bar's.
    """
    room = float(frame[value].max()) * room_for_words or 1.0
    y = alt.Y(f"{category}:N", sort=frame[category].tolist(), title=None)
    x = alt.X(f"{value}:Q", title=value_title, scale=alt.Scale(domain=[0, room], nice=False), axis=share_axis())
    base = alt.Chart(frame)
    bars = base.mark_bar(style="main-bar").encode(y=y, x=x, tooltip=list(tooltips))
    words = base.mark_text(style="value-text", align="left", dx=5).encode(y=y, x=x, text=f"{written}:N")
    return alt.layer(bars, words)


def columns(
    frame: pd.DataFrame,
    *,
    category: str,
    value: str,
    category_title: str,
    value_title: str,
    tooltips: Sequence[alt.Tooltip],
) -> Any:
    """Draw one upright bar per category, as shares."""
    return (
        alt.Chart(frame)
        .mark_bar(style="main-bar")
        .encode(
            x=alt.X(
                f"{category}:N", sort=frame[category].tolist(), title=category_title, axis=labels_axis(frame[category])
            ),
            y=percent_axis(value, value_title),
            tooltip=list(tooltips),
        )
    )


def paired_columns(
    frame: pd.DataFrame, *, category: str, category_title: str, value_title: str, names: dict[str, str]
) -> Any:
    """Draw two or more share columns per category side by side; `names` maps column to legend word."""
    long = frame.melt(category, value_vars=list(names), var_name="column", value_name="share")
    long["what"] = long["column"].map(names)
    return (
        alt.Chart(long)
        .mark_bar()
        .encode(
            x=alt.X(
                f"{category}:N", sort=frame[category].tolist(), title=category_title, axis=labels_axis(frame[category])
            ),
            xOffset=alt.XOffset("what:N", sort=list(names.values())),
            y=percent_axis("share", value_title),
            color=alt.Color("what:N", sort=list(names.values()), title=None),
            tooltip=[
                alt.Tooltip(f"{category}:N", title=category_title),
                alt.Tooltip("what:N", title="share"),
                alt.Tooltip("share:Q", format=PERCENT, title="value"),
            ],
        )
    )


def labels_axis(labels: pd.Series) -> alt.Axis:
    """Show every label, turned when they would not fit side by side on half a page."""
    return alt.Axis(labelAngle=-40 if labels.str.len().sum() + 2 * len(labels) > 48 else 0, labelOverlap=False)
