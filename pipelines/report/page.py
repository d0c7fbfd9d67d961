"""Put blocks on a page: one HTML file that needs no network and no neighbour."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from pipelines.report.blocks import TONE_LABELS, Badge, Block, Chart, Meter, Section, Stack
from pipelines.report.theme import DARK, LIGHT, vega_config


def render_page(
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    *,
    lead: Sequence[Block] = (),
    footer: str = "",
) -> str:
    """Render a report. `lead` stands above the first section and has no entry in the navigation.

    The same blocks give the same bytes. Charts are drawn by the page's own script, in order, and
    `document.documentElement.dataset.charts` turns from "drawing" to "ready" (or "failed") when all are done.
    """
    blocks = [*lead, *(block for section in sections for block in section.blocks)]
    charts = [block for block in blocks if isinstance(block, Chart)]
    spec_numbers = {id(chart): number for number, chart in enumerate(charts)}
    lonely = _lonely(lead).union(*(_lonely(section.blocks) for section in sections))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["badge"] = lambda cell: isinstance(cell, Badge)
    environment.tests["meter"] = lambda cell: isinstance(cell, Meter)
    environment.tests["stack"] = lambda cell: isinstance(cell, Stack)
    environment.filters["paragraphs"] = _paragraphs
    return environment.get_template("page.html.j2").render(
        title=title,
        subtitle=subtitle,
        sections=_with_anchors(sections),
        lead=lead,
        footer=footer,
        tone_labels=TONE_LABELS,
        spec_number=lambda chart: spec_numbers[id(chart)],
        is_wide=lambda chart: chart.wide or id(chart) in lonely,
        specs=_script_json([_page_spec(chart.spec) for chart in charts]),
        configs=_script_json({"light": vega_config(LIGHT), "dark": vega_config(DARK)}),
        css=Markup(_asset("page.css")),
        script=Markup(_asset("page.js")),
        vega=Markup(_vega_script()),
    )


def _page_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what the page decides itself: the look, and the schema's address."""
    return {key: value for key, value in spec.items() if key not in {"$schema", "config"}}


def _lonely(blocks: Sequence[Block]) -> set[int]:
    """Find the charts of half width that have no neighbour to share their row with."""
    lonely: set[int] = set()
    waiting: Chart | None = None
    for block in (*blocks, None):
        if isinstance(block, Chart) and not block.wide:
            waiting = None if waiting else block
        elif waiting:
            lonely.add(id(waiting))
            waiting = None
    return lonely


def _with_anchors(sections: Sequence[Section]) -> list[tuple[str, Section]]:
    anchors: list[tuple[str, Section]] = []
    taken: set[str] = set()
    for section in sections:
        base = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-") or "section"
        anchor, number = base, 2
        while anchor in taken:
            anchor, number = f"{base}-{number}", number + 1
        taken.add(anchor)
        anchors.append((anchor, section))
    return anchors


def _paragraphs(text: str) -> list[str]:
    if isinstance(text, Markup):
        return [text]
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def _script_json(value: Any) -> Markup:
    """Write JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _asset(name: str) -> str:
    return (resources.files("pipelines.report") / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def _vega_script() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, from the wheel of vl-convert-python."""
    script: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub forgets the default
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("vl-convert's JavaScript would end its own script element; pin the version that did not")
    return script
