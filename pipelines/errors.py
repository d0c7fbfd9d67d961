"""What can go wrong in a run, and the exit code that tells the caller what to do about it.

0 done · 2 usage or configuration · 3 data gate refused · 4 artefact invalid · 75 try again (EX_TEMPFAIL of sysexits.h).
Anything else that is raised is a bug: it keeps its traceback and exits with 1.
"""

import sys
from typing import ClassVar, NoReturn


class PipelineError(Exception):
    """Say what happened, the value, where, and how to mend it: the message is all that people see."""

    exit_code: ClassVar[int] = 1


class UsageError(PipelineError):
    """A parameter, setting or permission that the caller must correct."""

    exit_code = 2


class DataGateError(PipelineError):
    """The data is readable, and not fit to train on."""

    exit_code = 3


class ArtefactError(PipelineError):
    """Something that an earlier step should have left is missing, damaged or of another format."""

    exit_code = 4


class TryAgainError(PipelineError):
    """The same command may succeed later: Argo and the local runner repeat it."""

    exit_code = 75


class LakeKeyMissing(ArtefactError):
    """Nothing is stored under the key."""


class LakeDamaged(ArtefactError):
    """What is stored differs from what its manifest promises."""


class LakeConflict(TryAgainError):
    """A conditional write lost against another writer."""


class LakeUnreachable(TryAgainError):
    """The lake did not answer, after retries."""


class LakeFull(TryAgainError):
    """No space is left where a file should go."""


class LakeRefused(UsageError):
    """The lake answered no: credentials, permission, a missing bucket, a read-only folder."""


def exit_with(error: PipelineError) -> NoReturn:
    """Print the error once, for people, and leave with its exit code."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    raise SystemExit(error.exit_code)
