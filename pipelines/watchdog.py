"""Kill what a local run has started when the run itself is killed.

Runs as a process of its own. Its standard input is a pipe that only the run holds open: the run writes `+group` and
`-group` as its processes come and go, and the pipe ends when the run does, however it ends. Works where Linux's
parent-death signal does not: for a step's own children, and on macOS.
"""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress


def watch(lines: Iterable[str]) -> None:
    groups: set[int] = set()
    for line in lines:
        if line.startswith("+"):
            groups.add(int(line[1:]))
        else:
            groups.discard(int(line[1:]))
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    watch(sys.stdin)
