"""The champion pointer, and the audit of who moved it when and why."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inference.champion import parse_champion
from inference.errors import BundleError
from pipelines.edge import this_python
from pipelines.errors import ArtefactError, LakeConflict, LakeKeyMissing, UsageError
from pipelines.lake.base import Lake
from pipelines.registry.bundles import check_answers
from pipelines.registry.deletion import is_going

CHAMPION_KEY = "registry/champion.json"


@dataclass(frozen=True)
class Champion:
    """The version that is served, and the etag that a conditional move needs."""

    version: str
    etag: str
    move: Mapping[str, Any]
    """The event of the audit that made it champion."""


def read_champion(lake: Lake) -> Champion | None:
    """Read the pointer; raises ArtefactError when it is not one."""
    try:
        text, etag = lake.read_versioned(CHAMPION_KEY)
    except LakeKeyMissing:
        return None
    try:
        version = parse_champion(text, lake.uri_of(CHAMPION_KEY))
    except BundleError as error:
        raise ArtefactError(f"{error} VERSION --reason …") from error
    pointer = json.loads(text)
    number = pointer.get("number", 0)
    if not isinstance(number, int) or number < 0:
        mend = f"promote a bundle again: {this_python()} -m pipelines.registry promote VERSION --reason …"
        raise ArtefactError(f"{lake.uri_of(CHAMPION_KEY)}: number {number!r} is no count of moves; {mend}")
    return Champion(
        version,
        etag,
        {
            "number": number,
            "action": pointer.get("action", "promote"),
            "from": pointer.get("previous"),
            "to": version,
            "who": pointer.get("who"),
            "why": pointer.get("why"),
            "when": pointer.get("promoted_at"),
        },
    )


def move_champion(
    lake: Lake, version: str, expected: Champion | None, *, action: str, why: str, who: str, now: datetime
) -> None:
    """Point to another version, if nobody else has moved the pointer since `expected` was read; then note it.

    Raises LakeConflict (exit 75) when another promotion won.
    """
    if expected and expected.version:
        complete_audit(lake, expected)
    number = 1 + max([expected.move["number"] if expected else 0, *(event["number"] for event in read_audit(lake))])
    event = {
        "number": number,
        "action": action,
        "from": (expected.version or None) if expected else None,
        "to": version,
        "who": who,
        "why": why,
        "when": now.isoformat(timespec="seconds"),
    }
    pointer = {
        "version": version,
        "number": number,
        "action": action,
        "previous": event["from"],
        "who": who,
        "why": why,
        "promoted_at": event["when"],
    }
    before = lake.read_bytes(CHAMPION_KEY) if expected else b""
    if expected is None:
        lake.write_bytes(CHAMPION_KEY, _json(pointer), if_absent=True)
    else:
        lake.write_bytes(CHAMPION_KEY, _json(pointer), if_match=expected.etag)
    # A prune announces first and then looks for the champion: one of the two sees the other.
    if is_going(lake, version, now):
        _move_back(lake, _json(pointer), before)
        raise LakeConflict(f"bundle {version} is being deleted by a prune, so it cannot become the champion")
    _note(lake, event)


def _move_back(lake: Lake, pointer: bytes, before: bytes) -> None:
    """Undo a move, unless somebody has moved on from it."""
    text, etag = lake.read_versioned(CHAMPION_KEY)
    if text != pointer:
        return
    if before:
        lake.write_bytes(CHAMPION_KEY, before, if_match=etag)
    else:
        lake.delete(CHAMPION_KEY)


def _is_noted(lake: Lake, champion: Champion) -> bool:
    return any(event["number"] == champion.move["number"] for event in read_audit(lake))


def complete_audit(lake: Lake, champion: Champion) -> None:
    """Note the champion's promotion if that was killed after it moved the pointer."""
    _note(lake, champion.move)


def _note(lake: Lake, event: Mapping[str, Any]) -> None:
    """Add a move to the audit, once."""
    with suppress(LakeConflict):
        lake.write_bytes(f"registry/audit/{event['number']:06d}-{event['to']}.json", _json(event), if_absent=True)


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def read_audit(lake: Lake) -> list[dict[str, Any]]:
    """Every move of the champion, oldest first."""
    events = []
    for key in lake.list("registry/audit/"):
        try:
            event = json.loads(lake.read_bytes(key))
            events.append(event | {"number": int(event.get("number", 0)), "action": event["action"], "to": event["to"]})
        except (ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(
                f"{lake.uri_of(key)} is no event of the audit ({type(error).__name__}: {error}); restore it from a "
                "copy, or move it out of the folder, and say so in the next --reason"
            ) from error
    return sorted(events, key=lambda event: event["number"])  # stable: the keys are in order of time


def earlier_champion(lake: Lake, champion: Champion) -> str | None:
    """Walk the audit for the champion before this one; those that a rollback has left behind do not count."""
    line: list[str] = []
    for event in read_audit(lake):
        if event["action"] == "rollback" and event["to"] in line:
            while line[-1] != event["to"]:
                line.pop()
        elif line[-1:] != [event["to"]]:
            line.append(event["to"])
    if line[-1:] != [champion.version]:  # its promotion was killed before the audit heard of it
        line.append(champion.version)
    return line[-2] if len(line) > 1 else None


def promote(lake: Lake, version: str, *, why: str, who: str, now: datetime) -> None:
    """Make a version the champion by hand, after verifying it; this also replaces a damaged pointer."""
    try:
        expected = read_champion(lake)
    except ArtefactError:
        expected = Champion("", lake.read_versioned(CHAMPION_KEY)[1], {"number": 0})
    if expected and expected.version == version:
        complete_audit(lake, expected)
        raise UsageError(f"{version} is the champion already")
    check_answers(lake, version)
    move_champion(lake, version, expected, action="promote", why=why, who=who, now=now)


def roll_back(lake: Lake, *, why: str, who: str, now: datetime) -> str:
    """Go back to the champion before this one, after verifying it; returns its version.

    A rollback that was killed before the audit heard of it is noted, and done.
    """
    champion = read_champion(lake)
    if champion and champion.move["action"] == "rollback" and not _is_noted(lake, champion):
        complete_audit(lake, champion)
        return champion.version
    earlier = earlier_champion(lake, champion) if champion else None
    if champion is None or earlier is None:
        raise UsageError(f"there is no earlier champion to go back to; see: {this_python()} -m pipelines.registry show")
    check_answers(lake, earlier)
    move_champion(lake, earlier, champion, action="rollback", why=why, who=who, now=now)
    return earlier


def current_user() -> str:
    """Who moves the pointer: the pod's workflow, or the person at this machine."""
    workflow = os.environ.get("ARGO_WORKFLOW_NAME")
    if workflow:
        return f"workflow {workflow}"
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's numeric user has no name
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
