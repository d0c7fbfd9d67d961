"""Bearer tokens, kept as sha256 hashes in a file that may change while the server runs.

One token to a line, `name:sha256` in hex; blank lines and lines that begin with # are skipped. A name may stand twice,
so that an old token and its successor are good at the same time. `python -m inference.tokens NAME` makes one.

A file that can be read is obeyed: who is not in it any more has no token, and a bad line harms no other. Only a file
that is gone or cannot be read leaves the tokens before it good.
"""

import errno
import hashlib
import hmac
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from inference.errors import RequestRefused, SettingsInvalid
from inference.telemetry import get_logger

# Whatever tells nothing about customers, articles or load; everything else needs a token.
OPEN_PATHS = frozenset({"/", "/healthz", "/livez", "/docs", "/openapi.json"})
OPEN_FOLDER = "/docs/assets/"
LOOK_EVERY_S = 1.0
MAX_FILE_BYTES = 1 << 20
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}):([0-9A-Fa-f]{64})")

log = get_logger()


class Tokens:
    """Whom the server answers; SettingsInvalid when the file cannot be read at the start.

    `open_paths` are answered without a token beside those that tell nothing anyway.
    """

    def __init__(self, path: Path, open_paths: Iterable[str] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._open_paths = OPEN_PATHS | frozenset(open_paths)
        self._now = now
        self._looked_at = now()
        self._state = _state(path)
        self.reason = ""
        """What is wrong with the file, by line and never quoted; empty when nothing is."""
        try:
            self._digests, self.reason = _read(path)
        except OSError as error:
            raise SettingsInvalid(f"API_TOKENS_FILE={path}: cannot be read ({error.strerror})") from error
        if not self._digests:
            raise SettingsInvalid(f"API_TOKENS_FILE={path}: {self.reason}")
        if self.reason:
            log.error("tokens_refused", path=str(path), reason=self.reason, n_tokens=len(self._digests))

    def refusal(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> RequestRefused | None:
        """Give the 401 of a request that needs a token and has none that is good."""
        if path in self._open_paths or path.startswith(OPEN_FOLDER):
            return None
        self._reread()
        given = next((value for name, value in headers if name == b"authorization"), None)
        if given is None:
            return RequestRefused(401, "no_token", "this needs a token: send Authorization: Bearer …")
        scheme, _, token = given.partition(b" ")
        digest = hashlib.sha256(token.strip()).digest()
        # Every hash is compared, each in constant time, so that time says nothing about which one was near.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() != b"bearer" or not any(matches):
            return RequestRefused(401, "wrong_token", "the token is not known; ask who runs this service for one")
        return None

    def _reread(self) -> None:
        if self._now() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = self._now()
        state = _state(self._path)
        if state == self._state:
            return
        self._state = state
        try:
            self._digests, self.reason = _read(self._path)
        except OSError as error:  # a mount that is gone for a moment must not lock everybody out
            self.reason = f"cannot be read ({error.strerror}); who had a token keeps it"
        if self.reason:
            log.error("tokens_refused", path=str(self._path), reason=self.reason, n_tokens=len(self._digests))
        else:
            log.info("tokens_read", path=str(self._path), n_tokens=len(self._digests))


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> tuple[list[bytes], str]:
    """Give the hashes of all good lines, and what is wrong with the others; OSError when the file cannot be read."""
    if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would never end
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        text = file.read(MAX_FILE_BYTES + 1)
    if len(text) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_FILE_BYTES:,} bytes")
    digests, bad = [], []
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:  # never quoted: somebody may have put the token itself there
            bad.append(number)
        else:
            digests.append(bytes.fromhex(found[2]))
    if bad:
        which = f"line {bad[0]} is" if len(bad) == 1 else f"lines {', '.join(map(str, bad[:10]))} are"
        return digests, f"{which} not name:sha256 in hex; python -m inference.tokens NAME makes one"
    return digests, "" if digests else "it holds no token; make one with python -m inference.tokens NAME"


def main() -> None:
    """Print a new token for the client and, below it, the line for the file."""
    if len(sys.argv) != 2 or not _LINE.fullmatch(f"{sys.argv[1]}:{'0' * 64}"):
        print("usage: python -m inference.tokens NAME   (letters, digits, . _ -)", file=sys.stderr)
        sys.exit(SettingsInvalid.exit_code)
    token = secrets.token_urlsafe(32)
    print(f"token for the client   {token}")
    print(f"line for the file      {sys.argv[1]}:{hashlib.sha256(token.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
