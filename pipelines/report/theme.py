"""Colours and type of the charts, light and dark.

Charts name what a mark means (`mark_line(style="main")`) and the page decides how that looks; so one specification
serves both modes. The categorical colours are in an order that neighbours stay apart for colour-blind readers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Palette:
    ink: str
    ink_soft: str
    ink_faint: str
    grid: str
    surface: str
    context: str
    alarm: str
    category: Sequence[str]
    ramp: Sequence[str]
    diverging: Sequence[str]


LIGHT = Palette(
    ink="#1f1f1d",
    ink_soft="#52514c",
    ink_faint="#8a897f",
    grid="#e8e7e1",
    surface="#ffffff",
    context="#c3c2b8",
    alarm="#c93b34",
    category=("#2a78d6", "#eb6834", "#1baf7a", "#eda100", "#e87ba4", "#008300", "#4a3aa7", "#e34948"),
    ramp=("#eef4fc", "#cde2fb", "#9ec5f4", "#6da7ec", "#3987e5", "#1c5cab", "#0d366b"),
    diverging=("#a8302b", "#e58a83", "#f4d4d0", "#f0efec", "#cde2fb", "#6da7ec", "#1c5cab"),
)
DARK = Palette(
    ink="#f2f1ec",
    ink_soft="#c3c2b7",
    ink_faint="#8d8c83",
    grid="#33332f",
    surface="#1f1f1d",
    context="#5c5b54",
    alarm="#f0716a",
    category=("#3987e5", "#d95926", "#199e70", "#c98500", "#d55181", "#3f9c3f", "#9085e9", "#e66767"),
    ramp=("#232a35", "#143a66", "#184f95", "#256abf", "#3987e5", "#6da7ec", "#b7d3f6"),
    diverging=("#f0837c", "#b8453f", "#5e2f2c", "#383835", "#1f4777", "#3987e5", "#9ec5f4"),
)


def vega_config(palette: Palette) -> Mapping[str, Any]:
    """Build the Vega-Lite configuration that a page embeds for one mode."""
    main, second = palette.category[0], palette.category[1]
    return {
        "background": "transparent",
        "font": FONT,
        "padding": {"left": 2, "right": 8, "top": 4, "bottom": 2},
        "view": {"stroke": None},
        "axis": {
            "domainColor": palette.context,
            "gridColor": palette.grid,
            "labelColor": palette.ink_soft,
            "labelFontSize": 12,
            "labelLimit": 190,
            "tickColor": palette.context,
            "tickSize": 4,
            "titleColor": palette.ink_soft,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 8,
        },
        "axisX": {"grid": False, "labelFlush": True, "labelOverlap": "greedy", "labelSeparation": 6},
        "axisY": {"domain": False, "ticks": False, "labelPadding": 6, "labelOverlap": "greedy"},
        "axisBand": {"labelFlush": False},
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "labelColor": palette.ink_soft,
            "labelFontSize": 12,
            "labelLimit": 200,
            "titleColor": palette.ink_soft,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titleLimit": 420,
            "symbolStrokeWidth": 2,
            "gradientThickness": 10,
            "gradientLength": 180,
        },
        "range": {
            "category": list(palette.category),
            "ordinal": list(palette.ramp[1:]),
            "ramp": list(palette.ramp),
            "heatmap": list(palette.ramp),
            "diverging": list(palette.diverging),
        },
        "mark": {"color": main, "tooltip": True},
        "bar": {"cornerRadiusEnd": 2, "color": main},
        "line": {"strokeWidth": 2, "strokeJoin": "round", "strokeCap": "round"},
        "area": {"line": False},
        "rect": {"stroke": palette.surface, "strokeWidth": 1},
        "rule": {"color": palette.ink_faint},
        "text": {"color": palette.ink, "fontSize": 12},
        # `color`, not `stroke` or `fill`: Vega-Lite lets the default colour of all marks win over those.
        "style": {
            "main": {"color": main},
            "main-line": {"color": main, "strokeWidth": 2},
            "main-bar": {"color": main},
            "second-line": {"color": second, "strokeWidth": 2},
            "second-bar": {"color": second},
            "context-line": {"color": palette.context, "strokeWidth": 1},
            "context-bar": {"color": palette.context},
            "context-rule": {"color": palette.ink_faint, "strokeDash": [2, 3], "strokeWidth": 1},
            "spread-rule": {"color": main, "strokeWidth": 1.5},
            "now-tick": {"color": palette.ink, "thickness": 2.5},
            "cutoff-rule": {"color": palette.ink, "strokeDash": [5, 4], "strokeWidth": 1.5},
            "cutoff-text": {"color": palette.ink, "fontSize": 12, "fontWeight": 600},
            "window": {"color": second, "opacity": 0.2, "strokeWidth": 0},
            "alarm-point": {"color": palette.alarm, "size": 64, "opacity": 1},
            "value-text": {"color": palette.ink_soft, "fontSize": 11},
            "note-text": {"color": palette.ink_soft, "fontSize": 12},
        },
    }
