"""What answers have in common: their request id, their headers and the envelope of every error."""

import re
import secrets
from collections.abc import Iterable
from http import HTTPStatus

import orjson

RETRY_AFTER_SECONDS = {429: b"1", 503: b"5"}
CLIENT_GONE = 499  # as nginx counts it; nothing is sent
_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_JSON = (b"content-type", b"application/json")


def error_body(code: str, message: str, request_id: str) -> bytes:
    """Write the envelope that every error has."""
    return orjson.dumps({"error": {"code": code, "message": message, "request_id": request_id}})


def headers_of(status: int, request_id: str, payload: bytes) -> list[tuple[bytes, bytes]]:
    """Give the headers of a JSON answer."""
    headers = [
        _JSON,
        (b"x-request-id", request_id.encode()),
        (b"content-length", b"%d" % len(payload)),
    ]
    if status in RETRY_AFTER_SECONDS:
        headers.append((b"retry-after", RETRY_AFTER_SECONDS[status]))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def bare_answer(status: int, code: str, message: str) -> bytes:
    """Write the whole of an answer to what is no request, after which the connection closes."""
    request_id = secrets.token_hex(8)
    payload = error_body(code, message, request_id)
    head = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
    headers = [*headers_of(status, request_id, payload), (b"connection", b"close")]
    return head + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n" + payload


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Keep the client's X-Request-ID when it is short and plain, else make one."""
    for name, value in headers:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            sane: str = value.decode("ascii")
            return sane
    return secrets.token_hex(8)
