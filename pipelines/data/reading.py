"""Read a table's file as a stream of blocks: typed when every row parses, as text with line numbers when not."""

import csv
import difflib
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from pipelines.data.schema import TRANSACTION_SCHEMA
from pipelines.errors import DataGateError

BLOCK_BYTES = 16 * 2**20  # big enough for the parser to run flat out, small beside a pod's memory
LONGEST_LINE_BYTES = 64 * 2**20  # what has no line breaks is no table, and must not fill the memory
DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
MAGICS = {
    b"\xff\xfe": "UTF-16 text; save it as 'CSV UTF-8'",
    b"\xfe\xff": "UTF-16 text; save it as 'CSV UTF-8'",
    b"\x1f\x8b": "gzip; name it .csv.gz",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or export it as CSV",
    b"PAR1": "Parquet; name it .parquet",
}
BOM = b"\xef\xbb\xbf"
# A line whose quoted values all end on it, as the parser sees it: a quote opens only at the start of a value.
_VALUE = rb'(?:"(?:[^"]|"")*+"|(?!"))[^,]*'
CLOSED_LINE = re.compile(_VALUE + rb"(?:," + _VALUE + rb")*")


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive lines of a CSV file, whole lines each."""

    name: str
    header: tuple[str, ...]
    first_line: int
    data: bytes

    def typed(self) -> pa.Table | None:
        """Parse transactions with their types; None when some row does not parse, or runs over the end of its line."""
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(self.data),
                pa_csv.ReadOptions(use_threads=False, column_names=self.header, block_size=len(self.data) + 1),
                convert_options=pa_csv.ConvertOptions(
                    column_types=TRANSACTION_SCHEMA,
                    include_columns=TRANSACTION_SCHEMA.names,
                    null_values=[""],
                ),
            )
        except pa.ArrowInvalid:
            return None
        return None if _unclosed_lines(self.data) else table

    def text(self, columns: Sequence[str], *, newlines_in_values: bool = False) -> pl.DataFrame:
        """Parse as text, with file, line, `problem` (columns, encoding) and, where a row is broken, its `text`.

        Unless values may hold line breaks, a quote that is opened and not closed breaks its own line and no other.
        """
        lines = self.data.split(b"\n")
        unclosed = [] if newlines_in_values else _unclosed_lines(self.data)
        torn = [(position, lines[position].rstrip(b"\r").decode(errors="backslashreplace")) for position in unclosed]
        for position in unclosed:
            lines[position] = b""
        data = b"\n".join(lines) if unclosed else self.data
        broken: list[tuple[int, str]] = []

        def keep(row: pa_csv.InvalidRow) -> str:
            broken.append((row.number - 1, row.text))
            return "skip"

        table = pa_csv.read_csv(
            pa.BufferReader(data),
            pa_csv.ReadOptions(use_threads=False, column_names=self.header, block_size=len(data) + 1),
            pa_csv.ParseOptions(
                invalid_row_handler=keep, ignore_empty_lines=False, newlines_in_values=newlines_in_values
            ),
            pa_csv.ConvertOptions(
                column_types={name: pa.binary() for name in self.header},
                include_columns=[name for name in columns if name in self.header],
                strings_can_be_null=False,
            ),
        )
        frame, is_text = _decode(table)
        n_rows = len(frame) + len(broken)
        positions = np.delete(np.arange(n_rows), [position for position, _ in broken])
        frame = frame.with_columns(
            position=pl.Series(positions, dtype=pl.Int64),
            problem=pl.when(is_text).then(None).otherwise(pl.lit("encoding")),
            text=pl.lit(None, pl.String),
        )
        torn += [(position, text) for position, text in broken if text.strip()]
        lost = pl.DataFrame(
            {"position": [position for position, _ in torn], "text": [text for _, text in torn]},
            schema={"position": pl.Int64, "text": pl.String},
        ).with_columns(problem=pl.lit("columns"))
        frame = pl.concat([frame, lost], how="diagonal").sort("position")
        extra_lines = pl.lit(0)
        if newlines_in_values:
            in_row = pl.sum_horizontal(pl.col(pl.String).str.count_matches("\n").fill_null(0))
            extra_lines = in_row.cum_sum() - in_row
        missing = [pl.lit(None, pl.String).alias(name) for name in columns if name not in self.header]
        frame = frame.with_columns(file=pl.lit(self.name), line=pl.col("position") + self.first_line + extra_lines)
        return (
            self._without_blank_lines(frame, lines)
            .with_columns(missing)
            .select("file", "line", "problem", "text", *columns)
        )

    def _without_blank_lines(self, frame: pl.DataFrame, lines: list[bytes]) -> pl.DataFrame:
        """Drop blank lines, which the parser gives as rows of empty values; rows of commas only are no such."""
        values = [name for name in frame.columns if name in self.header]
        is_empty = frame.select((pl.all_horizontal(pl.col(values) == "") & pl.col("problem").is_null()).alias("empty"))
        if not is_empty["empty"].any():
            return frame
        blank = {self.first_line + position for position, line in enumerate(lines) if not line.strip()}
        return frame.filter(~(is_empty["empty"] & frame["line"].is_in(blank)))


def read_blocks(
    file: BinaryIO, name: str, required: Sequence[str], *, block_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """Cut a CSV file into blocks of whole lines, behind a header that has the required columns."""
    reader = _Reader(file, name)
    pending = reader.read(block_bytes)
    while b"\n" not in pending and (more := reader.read(block_bytes)):
        _check_length(more, pending, name, 1)
        pending += more
    header = _header(pending, name, required)
    pending = pending.partition(b"\n")[2]
    line = 2
    n_blocks = 0
    while True:
        more = reader.read(block_bytes)
        _check_length(more, pending, name, line)
        end = more.rfind(b"\n") + 1
        # One copy for each byte, whatever the sizes: the parser runs as fast as memory does.
        data, pending = (
            (b"".join((pending, memoryview(more)[:end])), more[end:]) if end or not more else (b"", pending + more)
        )
        if data:
            n_blocks += 1
            yield Block(name, header, line, data)
            line += data.count(b"\n")
        if not more:
            break
    if n_blocks == 0:
        raise DataGateError(f"{name} has a header and no rows; is the export complete?")


def _check_length(more: bytes, pending: bytes, name: str, line: int) -> None:
    if more and len(pending) > LONGEST_LINE_BYTES and b"\n" not in pending:
        raise DataGateError(f"{name} line {line} is longer than {LONGEST_LINE_BYTES:,} bytes; is it a CSV file?")


def read_whole(file: BinaryIO, name: str, required: Sequence[str]) -> Block:
    """Read a table that fits in memory as one block, so that values may hold line breaks."""
    data = _Reader(file, name).read(-1)
    header = _header(data, name, required)
    newline = data.find(b"\n")
    if newline < 0 or newline + 1 == len(data):
        raise DataGateError(f"{name} has a header and no rows; is the export complete?")
    return Block(name, header, 2, data[newline + 1 :])


def _unclosed_lines(data: bytes) -> list[int]:
    """Find the lines on which a quote is opened and not closed: the parser would take the next ones for its value."""
    if b'"' not in data:
        return []
    lines = enumerate(data.split(b"\n"))
    return [position for position, line in lines if b'"' in line and not CLOSED_LINE.fullmatch(line)]


def _decode(table: pa.Table) -> tuple[pl.DataFrame, pl.Series]:
    """Give columns of bytes as text, and which rows are UTF-8; what is not is shown as \\xe9, so nothing is lost."""
    try:
        frame = pl.DataFrame(table.cast(pa.schema([(name, pa.string()) for name in table.column_names])))
        return frame, pl.repeat(True, len(frame), eager=True)
    except pa.ArrowInvalid:
        raw = pl.DataFrame(table)
        strict = raw.with_columns(pl.all().map_elements(_strictly, return_dtype=pl.String))
        shown = raw.with_columns(pl.all().map_elements(_readably, return_dtype=pl.String))
        return shown, strict.select(pl.all_horizontal(pl.all().is_not_null())).to_series()


def _strictly(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _readably(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


class _Reader:
    """Read bytes, unpacked if need be; a broken end of a gzip is said in words."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file
        self._name = name
        self._n_bytes = 0

    def read(self, n_bytes: int) -> bytes:
        try:
            data = self._file.read(n_bytes)
        except EOFError as error:
            raise DataGateError(
                f"{self._name} is cut off: the gzip ends after {self._n_bytes:,} bytes of text without its end mark; "
                "copy the file again"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataGateError(f"{self._name} is damaged or no gzip ({error}); copy the file again") from error
        self._n_bytes += len(data)
        return data


def _header(data: bytes, name: str, required: Sequence[str]) -> tuple[str, ...]:
    if not data:
        raise DataGateError(f"{name} is empty; is the export complete?")
    for magic, what in MAGICS.items():
        if data.startswith(magic):
            raise DataGateError(f"{name} is {what}")
    line = data.removeprefix(BOM).split(b"\n", 1)[0].rstrip(b"\r").decode("utf-8", errors="replace")
    if "\r" in line:
        raise DataGateError(f"{name} ends its lines in the way of old Macs (CR); save it with LF or CR LF")
    try:
        columns = tuple(column.strip() for column in next(csv.reader([line]), []))
    except csv.Error as error:
        raise DataGateError(f"{name} line 1 is no header of a CSV file: {error}") from error
    missing = [column for column in required if column not in columns]
    if missing:
        for delimiter, what in DELIMITERS.items():
            found = {column.strip().strip('"') for column in line.split(delimiter)}
            if delimiter in line and found & set(required):
                raise DataGateError(f"{name} is separated by {what}, expected commas; export it with commas")
        raise DataGateError(missing_columns(name, columns, missing))
    twice = [column for column in required if columns.count(column) > 1]
    if twice:
        raise DataGateError(f"{name} line 1: column {twice[0]!r} appears twice; keep one")
    return columns


def missing_columns(name: str, columns: Sequence[str], missing: Sequence[str]) -> str:
    """Say which columns a file lacks, beside the ones that come nearest."""
    sentences = []
    for column in missing:
        near = difflib.get_close_matches(column.lower(), [other.lower() for other in columns], n=1)
        named = next((other for other in columns if near and other.lower() == near[0]), None)
        sentences.append(f"no column {column!r}" + (f" (is it {named!r}?)" if named else ""))
    return f"{name} line 1: {', '.join(sentences)}; it has {', '.join(columns) or 'none'}"
