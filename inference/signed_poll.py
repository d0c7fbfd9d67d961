"""Ask S3 for an object through a URL that a fetch process signed: one GET, without boto3."""

import functools
import http.client
import importlib.util
import os
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

POLL_TIMEOUT_S = 5.0


class Polled(NamedTuple):
    """What S3 answers; status 0 stands for no answer, `body` is read with status 200 only."""

    status: int
    body: bytes = b""
    etag: str = ""


def poll(url: str, etag: str, max_bytes: int = 0) -> Polled:
    """Ask once; 304 when the object still has this ETag. Reads at most one byte more than `max_bytes`."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, timeout=POLL_TIMEOUT_S, context=_tls())
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=POLL_TIMEOUT_S)
    try:
        headers = {"If-None-Match": f'"{etag}"'} if etag else {}
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200 or not max_bytes:
            return Polled(answer.status)
        return Polled(200, answer.read(max_bytes + 1), answer.headers.get("ETag", "").strip('"'))
    except (OSError, http.client.HTTPException):
        return Polled(0)
    finally:
        connection.close()


@functools.cache
def _tls() -> ssl.SSLContext:
    """Trust whom boto3 trusts: AWS_CA_BUNDLE, or the authorities that botocore carries (found, not imported)."""
    botocore = importlib.util.find_spec("botocore")
    carried = [f"{folder}/cacert.pem" for folder in (botocore.submodule_search_locations or ())] if botocore else []
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or next(iter(carried), None))
