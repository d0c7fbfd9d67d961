"""Change single values of a YAML file where they stand: every other byte stays, line ends and comments included."""

import os
import tempfile
from pathlib import Path

import yaml

from pipelines.errors import UsageError


def read_exact(path: Path) -> str:
    """Read a file with its line ends as they are; UsageError when it is no text."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def write_exact(path: Path, text: str) -> None:
    """Write a file at once: whoever reads meanwhile, or after a kill, has the old one or the new one."""
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
        Path(partial).chmod(path.stat().st_mode & 0o777)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def compose(path: Path, text: str) -> yaml.Node | None:
    """Give the nodes of a document, which know where in the text they stand; UsageError when it is no YAML."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise UsageError(f"{path} is not YAML: {where}; `make validate-gitops` shows every such file") from error
    return node


def field(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """Give the value of a mapping's key; None when it has none, or is no mapping."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def scalar(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def with_field(text: str, entry: yaml.MappingNode, key: str, value: str, after: str) -> str:
    """Give the text with a field of a mapping set; one that is not there comes behind the field `after`."""
    if (old := field(entry, key)) is not None:
        return text[: old.start_mark.index] + value + text[old.end_mark.index :]
    name, before = next(pair for pair in entry.value if pair[0].value == after)
    if entry.flow_style:
        place, added = before.end_mark.index, f", {key}: {value}"
    else:
        place = _end_of_line(text, before.end_mark.index)
        added = f"{_line_end(text)}{' ' * name.start_mark.column}{key}: {value}"
    return text[:place] + added + text[place:]


def without_field(text: str, entry: yaml.MappingNode, key: str) -> str:
    """Give the text without a field of a mapping, which is not its only one."""
    number = next((number for number, pair in enumerate(entry.value) if pair[0].value == key), None)
    if number is None:
        return text
    name, value = entry.value[number]
    if number == 0:
        return text[: name.start_mark.index] + text[entry.value[1][0].start_mark.index :]
    if entry.flow_style:
        return text[: entry.value[number - 1][1].end_mark.index] + text[value.end_mark.index :]
    start = text.rfind("\n", 0, name.start_mark.index)
    start = start - 1 if text[start - 1] == "\r" else start
    return text[:start] + text[_end_of_line(text, value.end_mark.index) :]


def _end_of_line(text: str, index: int) -> int:
    end = text.find("\n", index)
    end = len(text) if end < 0 else end
    return end - 1 if text[end - 1] == "\r" else end


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
