"""Rejected rows: kept whole beside their reasons, counted, and taken back in once they are mended."""

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipelines.data.schema import ARTICLE_COLUMNS, CUSTOMER_COLUMNS, REJECT_COLUMNS, TRANSACTION_COLUMNS
from pipelines.errors import UsageError

PLACE = ("file", "line")
CURED_BY_ARTICLES = ("article_unknown", "article_id_format")  # an id of 9 digits is mended when articles has it with 10
EXAMPLE_WIDTH = 34


class Quarantine:
    """Write rejects to rejected.csv and rejected.parquet as they come; both exist, even if empty, once it is left."""

    def __init__(self, folder: Path, own_columns: Sequence[str] = TRANSACTION_COLUMNS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._columns = {**REJECT_COLUMNS, **{name: pl.String() for name in own_columns}}
        schema = pa.schema([(name, pa.int64() if name == "line" else pa.large_string()) for name in self._columns])
        self._schema = schema
        self._parquet = pq.ParquetWriter(folder / "rejected.parquet", schema, compression="zstd", store_schema=False)
        self._csv = (folder / "rejected.csv").open("wb")
        self._csv.write((",".join(self._columns) + "\n").encode())
        self.by_file: Counter[str] = Counter()
        self.by_rule: Counter[str] = Counter()
        self._examples: dict[tuple[str, str], tuple[int, str, str, int]] = {}

    def add(self, rejects: pl.DataFrame) -> None:
        if rejects.is_empty():
            return
        missing = [pl.lit(None, pl.String).alias(name) for name in self._columns if name not in rejects.columns]
        rejects = rejects.with_columns(*missing).select(
            pl.col(name).cast(dtype) for name, dtype in self._columns.items()
        )
        rejects.write_csv(self._csv, include_header=False)
        self._parquet.write_table(rejects.to_arrow().cast(self._schema))
        firsts = rejects.group_by("file", "rule", maintain_order=True).agg(
            pl.col("line", "value", "reason").first(), pl.len().alias("n")
        )
        for file, rule, line, value, reason, n in firsts.iter_rows():
            self.by_file[file] += n
            self.by_rule[rule] += n
            first_line, first_value, first_reason, before = self._examples.get((file, rule), (line, value, reason, 0))
            self._examples[file, rule] = (first_line, first_value, first_reason, before + n)

    def table(self) -> str:
        """Show the reasons, most frequent first, each with its first example."""
        table = Table("file", "rule", "rows", "first line", "value", "reason", title="rejected rows")
        for (file, rule), (line, value, reason, n) in sorted(self._examples.items(), key=lambda item: -item[1][3]):
            shown = value or ""
            shown = shown if len(shown) <= EXAMPLE_WIDTH else shown[: EXAMPLE_WIDTH - 1] + "…"
            table.add_row(file, rule, f"{n:,}", f"{line:,}", shown, reason)
        console = Console(file=io.StringIO(), width=140, record=True, force_terminal=False)
        console.print(table)
        return console.export_text()

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parquet.close()
        self._csv.close()


class Replay:
    """Mended rows by their places in the source: they stand in for the rejects of these places, and no others."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows
        self._claimed = rows.select(PLACE).clear()

    @classmethod
    def nothing(cls) -> "Replay":
        return cls(pl.DataFrame(schema={**REJECT_COLUMNS, **_OWN_COLUMNS}))

    @classmethod
    def read(cls, path: Path) -> "Replay":
        """Read rows in the form of rejected.csv (or .parquet); column, value, rule and reason may be left out."""
        if not path.is_file():
            raise UsageError(f"replay {path} does not exist; give the mended rejected.csv of a run's quarantine")
        try:
            rows = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
        except pl.exceptions.PolarsError as error:
            raise UsageError(f"replay {path} cannot be read: {error}") from error
        lost = [name for name in PLACE if name not in rows.columns]
        if lost:
            raise UsageError(
                f"replay {path} has no column {' and no column '.join(map(repr, lost))}: they name the row"
            )
        lines = rows["line"].cast(pl.Int64, strict=False)
        if lines.null_count():
            bad = rows.filter(lines.is_null())["line"][0]
            raise UsageError(f"replay {path}: line {bad!r} is not a whole number; keep it as the quarantine wrote it")
        rows = rows.with_columns(line=lines)
        twice = rows.filter(rows.select(PLACE).is_duplicated())
        if len(twice):
            raise UsageError(
                f"replay {path} has {twice['file'][0]} line {twice['line'][0]} more than once; keep one row"
            )
        columns = {**REJECT_COLUMNS, **_OWN_COLUMNS}
        missing = [pl.lit(None, dtype).alias(name) for name, dtype in columns.items() if name not in rows.columns]
        return cls(rows.with_columns(*missing).select(*columns))

    def over(self, earlier: "Replay") -> "Replay":
        """Add an earlier replay's rows, where this one does not mend the same place again."""
        kept = earlier.rows.join(self.rows, on=PLACE, how="anti")
        return Replay(pl.concat([kept, self.rows]).sort(PLACE))

    def without_mended(self, rejects: pl.DataFrame) -> pl.DataFrame:
        """Leave out the rejects that a mended row stands in for."""
        mended = self.rows.select(PLACE)
        self._claimed.extend(rejects.select(PLACE).join(mended, on=PLACE, how="semi"))
        return rejects.join(mended, on=PLACE, how="anti")

    def of_file(self, file: str, columns: Sequence[str]) -> pl.DataFrame:
        """Give the mended rows of a file as the reader gives rows; call once its rejects are known.

        A row that was rejected because its article was missing, was left as it is and is no reject now has come in by
        itself with that article.
        """
        rows = self.rows.filter(pl.col("file") == file)
        stray = rows.join(self._claimed, on=PLACE, how="anti")
        came_in = stray.filter(pl.col("rule").is_in(CURED_BY_ARTICLES) & (pl.col("article_id") == pl.col("value")))
        rows, stray = (each.join(came_in, on=PLACE, how="anti") for each in (rows, stray))
        if len(stray):
            raise UsageError(
                f"replay: {file} line {stray['line'][0]} is not among the rejected rows of this source, so taking it "
                "in would count it twice; replay onto the source that the quarantine came from"
            )
        empty = pl.lit(None, pl.String)
        return rows.select("file", "line", empty.alias("problem"), empty.alias("text"), *columns)

    def check_files(self, files: Sequence[str]) -> None:
        """Raise UsageError when rows name a file that the source does not have."""
        strangers = sorted(set(self.rows["file"].to_list()) - set(files))
        if strangers:
            raise UsageError(f"replay: rows of {strangers[0]!r}, and the source has {', '.join(files)}")


_OWN_COLUMNS = {
    name: pl.String() for name in dict.fromkeys([*TRANSACTION_COLUMNS, *ARTICLE_COLUMNS, *CUSTOMER_COLUMNS])
}
