"""Draw the servers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

PANELS = {
    "cpu_us": "CPU µs per answer, saturated",
    "cpu_us_100_rps": "CPU µs per answer at 100 rps",
    "rps_p99_under_20_ms": "answers per second with p99 < 20 ms",
    "p99_ms_100_rps": "p99 ms at 100 rps",
    "own_mib": "resident MiB that no file backs",
    "start_seconds": "seconds to the first answer",
}


def write_plot(results: dict[str, Any], path: Path) -> Path:
    """Write one panel for each figure; below them memory over the soak, if there was one."""
    rows = [
        {"server": name, "figure": label, "value": figures[key]}
        for name, figures in results["services"].items()
        for key, label in PANELS.items()
    ]
    bars = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar()
        .encode(
            x=alt.X("value:Q", title=None),
            y=alt.Y("server:N", sort=None, title=None),
            color=alt.condition(alt.datum.server == "ours", alt.value("#c2410c"), alt.value("#94a3b8")),
        )
        .properties(width=260, height=110)
    )
    chart = bars.facet(facet=alt.Facet("figure:N", sort=list(PANELS.values()), title=None), columns=2)
    chart = chart.resolve_scale(x="independent")
    panels: list[Any] = [chart]
    if "soak" in results:
        series = pd.DataFrame(results["soak"]["working_set_mib"], columns=["minutes", "MiB"])
        panels.append(
            alt.Chart(series).mark_line().encode(x="minutes:Q", y=alt.Y("MiB:Q", title="working set MiB"))
            .properties(width=560, height=140)
        )  # fmt: skip
    alt.vconcat(*panels).save(path)
    return path
