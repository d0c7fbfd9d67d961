"""Charts of the training report: parts of metrics.json in, blocks of the page out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from pipelines.recommender.report_words import (
    MODEL,
    Comparison,
    comparison,
    finite,
    rules_of,
    short_label,
    signed,
    week_start,
)
from pipelines.report.blocks import Block, Chart, Text
from pipelines.report.numbers import count, plural

HEIGHT = 240
MAP_FORMAT = ".4f"
SIGNED = "+.4f"


def learning_curves(document: Mapping[str, Any]) -> list[Block]:
    """Losses and validation map_at_12 by epoch, with the epoch that was kept."""
    curve, best = document.get("curve", []), document.get("best_epoch")
    names = {"training_loss": "training", "validation_loss": "validation"}
    losses = [
        {"epoch": epoch["epoch"], "what": names[name], "loss": finite(epoch.get(name))}
        for name in names
        for epoch in curve
        if finite(epoch.get(name)) is not None
    ]
    maps = [
        {"epoch": epoch["epoch"], "map_at_12": finite(epoch.get("validation_map_at_12"))}
        for epoch in curve
        if finite(epoch.get("validation_map_at_12")) is not None
    ]
    blocks: list[Block] = []
    if losses:
        colour = alt.Color("what:N", sort=list(names.values()), title=None)
        tooltips = [alt.Tooltip("epoch:Q"), alt.Tooltip("what:N"), alt.Tooltip("loss:Q", format=MAP_FORMAT)]
        y = alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False), axis=alt.Axis(format=".2f", tickCount=5))
        line = chart_of(losses).mark_line(point=True).encode(x=_epochs(curve), y=y, color=colour, tooltip=tooltips)
        caption = "Lower is better."
        if maps and best:
            caption = (
                f"Lowest for the validation weeks after epoch {best}: the model is fitted anew for so many epochs, "
                "those weeks included."
            )
        blocks.append(block_of("Loss by epoch", alt.layer(line, *_kept(best)), caption))
    if maps:
        tooltips = [alt.Tooltip("epoch:Q"), alt.Tooltip("map_at_12:Q", format=MAP_FORMAT)]
        y = alt.Y("map_at_12:Q", scale=alt.Scale(zero=False), title="map_at_12", axis=alt.Axis(format=".4f"))
        line = chart_of(maps).mark_line(style="main-line", point=True).encode(x=_epochs(curve), y=y, tooltip=tooltips)
        caption = "On the weeks before the cutoff that were held back for early stopping. Higher is better."
        blocks.append(block_of("Validation map_at_12 by epoch", alt.layer(line, *_kept(best)), caption))
    if not maps and curve:
        blocks.append(Text("No validation week had customers to measure on, so every epoch was trained.", "note"))
    return blocks or [Text("The run wrote no training curve.", "note")]


def _epochs(curve: Sequence[Mapping[str, Any]]) -> alt.X:
    epochs = [epoch["epoch"] for epoch in curve]
    step = max(1, -(-len(epochs) // 10))
    axis = alt.Axis(values=epochs[::step], format="d")
    padding = 0.5 if len(epochs) == 1 else 0.0
    domain = [min(epochs) - padding, max(epochs) + padding]
    return alt.X("epoch:Q", title="epoch", axis=axis, scale=alt.Scale(domain=domain, nice=False))


def _kept(best: int | None) -> list[Any]:
    if not best:
        return []
    base = chart_of([{"epoch": best, "text": f"stopped at epoch {best}"}]).encode(x="epoch:Q")
    return [base.mark_rule(style="cutoff-rule").encode(tooltip=alt.Tooltip("text:N", title="mark"))]


def forest(comparisons: Sequence[Comparison], title: str, caption: str, *, n_shown: bool = False) -> list[Block]:
    """Draw each difference as a point with its 95 % interval, beside a line at no difference."""
    if not comparisons:
        return []
    rows = [
        {
            "rival": f"{one.name} ({count(one.n)})" if n_shown else one.name,
            "mean": one.mean,
            "low": one.low,
            "high": one.high,
            "n": one.n,
            "written": signed(one.mean),
        }
        for one in comparisons
    ]
    ends = [0.0, *(one.low for one in comparisons), *(one.high for one in comparisons)]
    margin = (max(ends) - min(ends)) * 0.06 or 0.001
    tooltips = [
        alt.Tooltip("rival:N", title="against" if not n_shown else "slice"),
        alt.Tooltip("mean:Q", format=SIGNED, title="difference"),
        alt.Tooltip("low:Q", format=SIGNED, title="95 % from"),
        alt.Tooltip("high:Q", format=SIGNED, title="95 % to"),
        alt.Tooltip("n:Q", format=",d", title="customer-weeks"),
    ]
    x = alt.X(
        "low:Q",
        title="difference in map_at_12",
        scale=alt.Scale(domain=[min(ends) - margin, max(ends) + 2 * margin], nice=False),
        axis=alt.Axis(labelExpr="datum.value == 0 ? '0' : format(datum.value, '+.4~f')", tickCount=5, labelFlush=False),
    )
    y = alt.Y("rival:N", sort=[str(row["rival"]) for row in rows], title=None, axis=alt.Axis(labelOverlap=False))
    base = chart_of(rows)
    drawing = alt.layer(
        chart_of([{"zero": 0.0}]).mark_rule(style="cutoff-rule").encode(x="zero:Q"),
        base.mark_rule(style="spread-rule").encode(y=y, x=x, x2="high:Q", tooltip=tooltips),
        base.mark_point(style="main", filled=True, size=80, opacity=1).encode(y=y, x="mean:Q", tooltip=tooltips),
        base.mark_text(style="value-text", align="left", dx=7, dy=-9).encode(y=y, x="mean:Q", text="written:N"),
    )
    return [block_of(title, drawing, caption, wide=True, height=max(110, 46 * len(rows)))]


def rivals_forest(document: Mapping[str, Any]) -> list[Block]:
    """Draw the paired differences to the rules and the champion."""
    found = [comparison(short_label(name), document.get("differences", {}).get(name)) for name in rules_of(document)]
    champion = document.get("champion")
    if champion:
        found.append(comparison("champion", champion.get("difference")))
    caption = (
        "The same customers and the same days for both. Right of the line this model is better; where the interval "
        "crosses it, the difference may be chance."
    )
    if champion and found[-1] and len(document.get("weeks", [])) > 1:
        caption += f" The champion: {plural(found[-1].n, 'customer')} of the newest label week alone."
    return forest([one for one in found if one], "What the model gains over each rival", caption)


def weeks(document: Mapping[str, Any]) -> list[Block]:
    """Draw map_at_12 of each evaluated week, a line per model."""
    evaluated = document.get("weeks", [])
    models = [MODEL, *rules_of(document)]
    rows = [
        {
            "week": f"{week_start(document, week).isoformat()}T00:00:00",  # local midnight, as Vega reads it
            "who": short_label(model),
            "map_at_12": value,
            "n": week.get("n_customers"),
        }
        for week in sorted(evaluated, key=lambda week: int(week["day"]))
        for model in models
        if (value := finite(week.get("map_at_12", {}).get(model))) is not None
    ]
    if len(evaluated) < 2 or not rows:
        return []
    buyers = [int(week.get("n_customers") or 0) for week in evaluated]
    few = f"{count(min(buyers))} to {plural(max(buyers), 'customer')} bought in each week"
    caption = f"For each week a model was fitted on the days before it alone. {few}: one week alone says little."
    starts = sorted(week_start(document, week) for week in evaluated)
    values = [alt.DateTime(year=day.year, month=day.month, date=day.day) for day in starts[:: -(-len(starts) // 9)]]
    axis = alt.Axis(format="%-d %b", labelAngle=0, values=values, labelOverlap="parity")
    drawing = (
        chart_of(rows)
        .mark_line(point=True)
        .encode(
            x=alt.X("week:T", title="label week from", axis=axis),
            y=alt.Y("map_at_12:Q", title="map_at_12", axis=alt.Axis(format=".4~f", tickCount=5)),
            color=alt.Color("who:N", sort=[short_label(model) for model in models], title=None),
            tooltip=[
                alt.Tooltip("week:T", format="%-d %b %Y", title="week from"),
                alt.Tooltip("who:N", title="by"),
                alt.Tooltip("map_at_12:Q", format=MAP_FORMAT),
                alt.Tooltip("n:Q", format=",d", title="customers"),
            ],
        )
    )
    return [block_of("map_at_12 by label week", drawing, caption, wide=True)]


def chart_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def block_of(title: str, drawing: Any, caption: str = "", *, wide: bool = False, height: int = HEIGHT) -> Chart:
    # Altair would validate every specification against its schema: 0.1 s each. The browser test draws them all.
    spec = drawing.properties(width="container", height=height).to_dict(validate=False)
    return Chart(title, spec, caption, wide=wide)
