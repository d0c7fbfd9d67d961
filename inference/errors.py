"""What the service refuses, and what it says about it."""

from typing import ClassVar


class BundleError(Exception):
    """A bundle that must not be served.

    `what` happened (with the value), `where` (file, array, field), `mend`: what to do about it.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, what: str, *, where: str, mend: str) -> None:
        super().__init__(f"{where}: {what}; {mend}")
        self.what = what
        self.where = where
        self.mend = mend


class ManifestInvalid(BundleError):
    """manifest.json is missing, unreadable, of another format, or says what cannot be."""


class FileDamaged(BundleError):
    """A listed file is missing, of the wrong size or hash, or lies outside the folder."""


class ArrayInvalid(BundleError):
    """An array has the wrong type or shape, or contradicts the others."""


class GraphRefused(BundleError):
    """model.onnx is not the graph that the contract describes, or answers nonsense."""


class MemoryShort(BundleError):
    """A bundle that may be sound, but does not fit beside the one that answers."""


class FetchFailed(Exception):
    """The registry could not be reached or read just now; trying again may help."""

    exit_code: ClassVar[int] = 75


class SettingsInvalid(Exception):
    """The environment does not describe a server that can start."""

    exit_code: ClassVar[int] = 2


class RequestRefused(Exception):
    """A request that gets no recommendations: the status, a code for programs and a message for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


INTERNAL = (500, "internal", "the request failed; the log has it under this request_id")
"""What a fault of ours looks like from outside."""
