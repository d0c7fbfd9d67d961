"""Who gains: slices of the customers, the model beside the best rule, with intervals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from pipelines.recommender.report_figures import HEIGHT, MAP_FORMAT, block_of, chart_of, forest
from pipelines.recommender.report_words import MODEL, comparison, finite, metric, rules_of, short_label, signed
from pipelines.report.blocks import Block, Cell, Stack, Table, Text
from pipelines.report.numbers import count

RECENCY = ("warm", "lapsed", "cold")
CHANNELS = ("channel store", "channel online", "channel none")
SMALL_SLICE = 100


def slices(document: Mapping[str, Any]) -> list[Block]:
    """Draw map_at_12 per slice, this model beside the best rule; and the differences to the champion."""
    table = document.get("slices", {})
    ages = sorted((name for name in table if name.startswith("age ")), key=_slice_order)
    channels = sorted((name for name in table if name.startswith("channel ")), key=_slice_order)
    others = sorted((name for name in table if name not in [*ages, *channels]), key=_slice_order)
    n_weeks = len(document.get("weeks", []))
    unit = "customer-weeks" if n_weeks > 1 else "customers"
    blocks: list[Block] = []
    if others:
        caption = f"Warm: bought in the last 13 weeks; lapsed: before that; cold: never. In brackets: {unit}."
        blocks += _slice_bars(document, others, "By time since the last purchase", caption)
    if ages:
        small = [name for name in ages if table[name].get("n", 0) < SMALL_SLICE]
        caption = f"In brackets: {unit}. " + (f"Fewer than {SMALL_SLICE} say little." if small else "")
        blocks += _slice_bars(document, ages, "By age", caption.strip())
    if channels:
        caption = f"Where most of the purchases before the week were made; none: no purchase. In brackets: {unit}."
        blocks += _slice_bars(document, channels, "By channel", caption)
    blocks += _gains(document, [*others, *ages, *channels], unit)
    champion = document.get("champion") or {}
    names = sorted(champion.get("slices", {}), key=_slice_order)
    found = [comparison(name, champion["slices"][name]) for name in names]
    caption = "On the label week; a slice that falls too far keeps a model from promotion. In brackets: customers."
    blocks += forest([one for one in found if one], "Gain over the champion, by slice", caption, n_shown=True)
    return blocks or [Text("No slice has customers.", "note")]


def _gains(document: Mapping[str, Any], names: Sequence[str], unit: str) -> list[Block]:
    """Draw and list the gain over the best rule in each slice, with its interval."""
    rules, table = rules_of(document), document.get("slices", {})
    if not rules or not names:
        return []
    best = rules[0]
    found = [comparison(name, table[name].get("differences", {}).get(best)) for name in names]
    caption = (
        f"Beside the {short_label(best)}, on the same customers. In brackets: {unit}. Of many slices a few stand "
        "beyond 0 by chance."
    )
    rows: list[list[Cell]] = []
    for name in names:
        values, gain = table[name].get("map_at_12", {}), table[name].get("differences", {}).get(best, {})
        low, high = signed(gain.get("low")), signed(gain.get("high"))
        rows.append(
            [
                name,
                count(table[name].get("n")),
                metric("map_at_12", values.get(MODEL)),
                metric("map_at_12", values.get(best)),
                Stack(signed(gain.get("mean")), f"{low} to {high}"),
            ]
        )
    columns = ["slice", unit, short_label(MODEL), short_label(best), "difference"]
    return [
        *forest([one for one in found if one], "Gain over the best rule, by slice", caption, n_shown=True),
        Table(columns, rows, "Every slice", "Below each difference: its 95 % interval.", frozenset({1, 2, 3, 4})),
    ]


def _slice_order(name: str) -> tuple[int, int, str]:
    """Recency, then age, then channel; each in its natural order."""
    if name.startswith("age "):
        number = re.search(r"\d+", name)
        return 1, 0 if " under " in name else int(number.group()) if number else 1000, name
    known = CHANNELS if name.startswith("channel ") else RECENCY
    return 2 if known is CHANNELS else 0, known.index(name) if name in known else len(known), name


def _slice_bars(document: Mapping[str, Any], names: Sequence[str], title: str, caption: str) -> list[Block]:
    models = [MODEL, *rules_of(document)[:1]]
    rows = [
        {
            "slice": f"{name} ({count(document['slices'][name].get('n'))})",
            "who": short_label(model),
            "map_at_12": value,
            "written": metric("map_at_12", value),
            "n": document["slices"][name].get("n"),
        }
        for name in names
        for model in models
        if (value := finite(document["slices"][name].get("map_at_12", {}).get(model))) is not None
    ]
    if not rows:
        return []
    who = [short_label(model) for model in models]
    room = max(float(str(row["map_at_12"])) for row in rows) * 1.25 or 0.001
    tooltips = [
        alt.Tooltip("slice:N"),
        alt.Tooltip("who:N", title="by"),
        alt.Tooltip("map_at_12:Q", format=MAP_FORMAT),
        alt.Tooltip("n:Q", format=",d"),
    ]
    base = chart_of(rows).encode(
        y=alt.Y(
            "slice:N",
            sort=list(dict.fromkeys(str(row["slice"]) for row in rows)),
            title=None,
            axis=alt.Axis(labelOverlap=False),
            scale=alt.Scale(paddingInner=0.3),
        ),
        yOffset=alt.YOffset("who:N", sort=who),
        x=alt.X(
            "map_at_12:Q",
            title="map_at_12",
            scale=alt.Scale(domain=[0, room], nice=False),
            axis=alt.Axis(format=".4~f", tickCount=4),
        ),
        tooltip=tooltips,
    )
    bars = base.mark_bar().encode(color=alt.Color("who:N", sort=who, title=None))
    words = base.mark_text(style="value-text", align="left", dx=5).encode(text="written:N")
    return [block_of(title, alt.layer(bars, words), caption, height=max(HEIGHT, 52 * len(names)))]
