"""Check single fields of a request by hand, and say what is wrong with one."""

from typing import Any

from inference.errors import RequestRefused

MAX_ID_LENGTH = 256
_TYPE_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def check_ids(name: str, ids: Any, max_ids: int, hint: str) -> None:
    """Refuse what is not a list of at most `max_ids` strings of a sane length."""
    if type(ids) is not list:
        raise invalid(f"{name} is {type_name(ids)}, expected a list of strings")
    if len(ids) > max_ids:
        raise invalid(f"{name} has {len(ids):,} entries, at most {max_ids:,}; {hint}")
    for position, text in enumerate(ids):
        if type(text) is not str:
            keep = "; a string keeps the leading zero" if type(text) is int else ""
            raise invalid(f"{name}[{position}] is {type_name(text)}, expected a string{keep}")
        if not 0 < len(text) <= MAX_ID_LENGTH:
            check_length(f"{name}[{position}]", text)


def check_length(name: str, text: str) -> None:
    """Refuse an empty string and one that is longer than any id."""
    if not text:
        raise invalid(f"{name} is empty; leave it out instead")
    if len(text) > MAX_ID_LENGTH:
        raise invalid(f"{name} has {len(text):,} characters, at most {MAX_ID_LENGTH}")


def invalid(message: str) -> RequestRefused:
    """Make the refusal of a request that is JSON but says what cannot be."""
    return RequestRefused(422, "invalid_request", message)


def type_name(value: Any) -> str:
    """Say of what type a JSON value is, in words."""
    return _TYPE_NAMES.get(type(value), "a number")
