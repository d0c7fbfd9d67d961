"""Read the body of a request with a cap."""

from starlette.types import Receive, Scope

from inference.errors import RequestRefused

MAX_BODY_BYTES = 64 * 1024  # 1,000 article_ids take 14 KiB, 256 customers of 64 characters 22 KiB


async def read_body(scope: Scope, receive: Receive) -> bytes | None:
    """Read at most MAX_BODY_BYTES; a body that says it is larger is not read at all. None when the client left."""
    for name, value in scope["headers"]:
        if name == b"content-length" and (len(value.lstrip(b"0")) > 9 or int(value) > MAX_BODY_BYTES):
            raise _too_large()
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        if len(body) > MAX_BODY_BYTES:
            break
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    return body


def _too_large() -> RequestRefused:
    return RequestRefused(413, "body_too_large", f"the body is larger than {MAX_BODY_BYTES:,} bytes")
