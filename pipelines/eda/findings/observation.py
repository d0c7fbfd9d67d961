"""What a rule says."""

from dataclasses import asdict, dataclass
from typing import Any

from pipelines.report.blocks import Finding, Tone


@dataclass(frozen=True, slots=True)
class Observation:
    """A finding with a fixed `kind`, for programs that read summary.json."""

    kind: str
    tone: Tone
    headline: str
    detail: str = ""

    def to_finding(self) -> Finding:
        return Finding(self.headline, self.detail, self.tone)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
