"""Drift: PSI per feature against each reference, and what moved."""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from pipelines.eda.drift import CALM, LARGE, Drift, Verdict
from pipelines.eda.figures.drawing import ROW_HEIGHT, chart
from pipelines.eda.findings.quality import feature_name
from pipelines.report.blocks import Badge, Block, Cell, Table, Text, Tone
from pipelines.report.numbers import percent

REFERENCES = {"previous_run": "previous run", "before": "4 weeks before", "year_ago": "a year ago"}
VERDICTS: Mapping[Verdict, tuple[str, Tone]] = {
    "calm": ("calm", "good"),
    "chance": ("may be chance", "plain"),
    "few": ("too few rows", "plain"),
    "moved": ("moved", "warning"),
    "large": ("moved far", "bad"),
}


def drift_blocks(drifts: Mapping[str, Sequence[Drift]], previous: str) -> list[Block]:
    """`previous` says in words which run is compared with, or that there is none."""
    blocks: list[Block] = [Text(previous, "note")]
    shown = {name: drifts[name] for name in REFERENCES if drifts.get(name)}
    if not shown:
        return [
            *blocks,
            Text("There is no earlier window within these data either: they are shorter than eight weeks."),
        ]
    blocks.append(_psi(shown))
    blocks += [_table(name, shown[name]) for name in shown]
    return blocks


def _psi(drifts: Mapping[str, Sequence[Drift]]) -> Block:
    names = [REFERENCES[name] for name in drifts]
    frame = pd.DataFrame(
        [
            {
                "feature": feature_name(drift.feature),
                "psi": drift.psi,
                "against": REFERENCES[name],
                "verdict": VERDICTS[drift.verdict][0],
            }
            for name, found in drifts.items()
            for drift in found
        ]
    )
    order = frame.groupby("feature")["psi"].max().sort_values(ascending=False, kind="stable").index.tolist()
    limits = pd.DataFrame({"x": [CALM, LARGE], "text": ["0.1", "0.25"]})
    rules = alt.Chart(limits).mark_rule(style="context-rule").encode(x="x:Q", tooltip=alt.value(None))
    room = max(0.3, float(frame["psi"].max()) * 1.1)
    points = (
        alt.Chart(frame)
        .mark_point(filled=True, size=90, opacity=1)
        .encode(
            x=alt.X(
                "psi:Q",
                title="population stability index",
                scale=alt.Scale(domain=[0, room], nice=False),
                axis=alt.Axis(format="~g", tickCount=6),
            ),
            y=alt.Y("feature:N", sort=order, title=None, axis=alt.Axis(grid=True)),
            color=alt.Color("against:N", sort=names, title="last 4 weeks against", scale=alt.Scale(domain=names)),
            shape=alt.Shape("against:N", sort=names, title="last 4 weeks against", scale=alt.Scale(domain=names)),
            tooltip=[
                alt.Tooltip("feature:N"),
                alt.Tooltip("against:N"),
                alt.Tooltip("psi:Q", format=".3f", title="PSI"),
                alt.Tooltip("verdict:N"),
            ],
        )
    )
    caption = "Left of the first line (0.1) a feature is calm, right of the second (0.25) it moved far, or by chance."
    return chart("Drift per feature", alt.layer(rules, points), caption, wide=True, height=ROW_HEIGHT * len(order) + 10)


def _table(name: str, drifts: Sequence[Drift]) -> Block:
    rows: list[list[Cell]] = []
    for drift in drifts:
        text, tone = VERDICTS[drift.verdict]
        label, before, now = drift.movers[0]
        rows.append(
            [
                feature_name(drift.feature),
                f"{drift.psi:.3f}",
                f"{drift.chance_level:.3f}",
                Badge(text, tone),
                f"{label}: {percent(before)} → {percent(now)}",
            ]
        )
    return Table(
        ["feature", "PSI", "chance reaches", "verdict", "largest move"],
        rows,
        title=f"Last 4 weeks against {REFERENCES[name]}",
        caption="PSI below 'chance reaches' can come from drawing two samples of this size from the same shop.",
        numeric=frozenset({1, 2}),
    )
