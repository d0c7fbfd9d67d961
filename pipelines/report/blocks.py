"""What a report is made of. Every text is escaped; pass a `markupsafe.Markup` where HTML is meant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Tone = Literal["plain", "good", "note", "warning", "bad"]
TONE_LABELS: Mapping[str, str] = {"plain": "", "good": "Good", "note": "Note", "warning": "Look", "bad": "Act"}


@dataclass(frozen=True, slots=True)
class Card:
    """One key figure, already written for people."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Cards:
    cards: Sequence[Card]
    kind: ClassVar[str] = "cards"


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs, parted by an empty line."""

    text: str
    tone: Tone = "plain"
    kind: ClassVar[str] = "text"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that stands out: a headline that stands alone, and the sentence behind it."""

    headline: str
    detail: str = ""
    tone: Tone = "note"


@dataclass(frozen=True, slots=True)
class Findings:
    findings: Sequence[Finding]
    title: str = ""
    kind: ClassVar[str] = "findings"


@dataclass(frozen=True, slots=True)
class Badge:
    """A table cell that says how things stand, by word and colour."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Meter:
    """A table cell with a bar behind its number. `share` is clipped to 0..1."""

    text: str
    share: float
    tone: Tone = "plain"

    @property
    def width_percent(self) -> str:
        return f"{100 * min(max(self.share, 0.0), 1.0):.1f}"


@dataclass(frozen=True, slots=True)
class Stack:
    """A table cell with a quieter second line."""

    text: str
    note: str = ""


Cell = str | Badge | Meter | Stack


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells. Columns named in `numeric` (by position) are aligned right; `half` shares the row with another."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    caption: str = ""
    numeric: frozenset[int] = frozenset()
    half: bool = False
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r} row {number}: {len(row)} cells for {len(self.columns)} columns")


@dataclass(frozen=True, slots=True)
class Fold:
    """Tables behind one line, for the reader who wants to look closer."""

    headline: str
    tables: Sequence[Table]
    note: str = ""
    is_open: bool = False
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True, slots=True)
class Chart:
    """A Vega-Lite specification, as `altair_chart.to_dict()` gives it.

    Leave colours to the page: use the mark styles and ranges of `theme.py`, which know light and dark. Ask for
    `width="container"`. `alt` says in words what the picture shows; `wide` takes the full width of the page.
    """

    title: str
    spec: Mapping[str, Any]
    caption: str = ""
    alt: str = ""
    wide: bool = False
    kind: ClassVar[str] = "chart"


Block = Cards | Text | Findings | Table | Fold | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of the page with an entry in its navigation (`short`, or the title)."""

    title: str
    blocks: Sequence[Block]
    intro: str = ""
    short: str = ""
