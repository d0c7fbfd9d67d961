"""What is wrong with a manifest: where, what, and how to mend it."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """One fault. `file` is relative to the repository where that is possible; `field` is a path into it, or empty."""

    file: str
    field: str
    what: str
    mend: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.field}" if self.field else self.file
        return f"{where}\n    {self.what}\n    mend: {self.mend}"
