"""Turn a source into the raw folder: typed tables, weekly transactions, quarantine, and the facts about them."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.data.partitions import WeeklyPartitions
from pipelines.data.quarantine import Quarantine, Replay
from pipelines.data.reading import Block, missing_columns, read_blocks, read_whole
from pipelines.data.rules import RowRules, customer_hashes, judge_keys
from pipelines.data.schema import (
    ARTICLE_COLUMNS,
    CUSTOMER_COLUMNS,
    REQUIRED_COLUMNS,
    SCHEMA_VERSION,
    TRANSACTION_COLUMNS,
    TRANSACTION_SCHEMA,
)
from pipelines.data.sources import FileSource, Source, SourceFile, SyntheticSource
from pipelines.errors import DataGateError

PARSERS = 2  # parsing and hashing run beside the writer; more would only hold more blocks in memory
BATCH_ROWS = 131_072


MAX_VARIANTS = 20  # mean articles of a product; H&M has 2.2


@dataclass(slots=True)
class Counts:
    """What was read, by file, and what was mended on the way."""

    read: dict[str, int] = field(default_factory=dict)
    n_repaired: int = 0
    n_replayed: int = 0
    customer_hashes: list[NDArray[np.uint64]] = field(default_factory=list)


def write_raw(
    source: Source, out: Path, *, scratch: Path, max_rejected_share: float, today: date, replay: Replay
) -> dict[str, Any]:
    """Write raw/ into `out` and give its facts; DataGateError, with `out`/quarantine complete, when too much is bad."""
    counts = Counts()
    if isinstance(source, FileSource):
        replay.check_files([file.name for file in source.files.values()])
    articles, bad_articles = _table(source, "articles", ARTICLE_COLUMNS, scratch, replay, counts)
    customers, bad_customers = _table(source, "customers", CUSTOMER_COLUMNS, scratch, replay, counts)
    if articles["product_code"].null_count() == len(articles):
        articles = articles.with_columns(product_code=_product_codes(articles["article_id"]))
    articles.write_parquet(out / "articles.parquet")
    customers.write_parquet(out / "customers.parquet")
    own_columns = [*TRANSACTION_COLUMNS]
    own_columns += [name for name in (ARTICLE_COLUMNS if len(bad_articles) else ()) if name not in own_columns]
    own_columns += [name for name in (CUSTOMER_COLUMNS if len(bad_customers) else ()) if name not in own_columns]
    rules = RowRules(articles["article_id"], today)
    n_articles, n_customers, known_customers = len(articles), len(customers), customers["customer_id"].hash().to_numpy()
    del articles, customers  # a full shop's customers are 300 MB, and the stream does not need them
    with Quarantine(out / "quarantine", own_columns) as quarantine:
        quarantine.add(bad_articles)
        quarantine.add(bad_customers)
        with WeeklyPartitions(out / "transactions") as partitions:
            _transactions(source, rules, partitions, quarantine, replay, counts, scratch)
    if len(replay.rows):
        replay.rows.write_parquet(out / "quarantine" / "replayed.parquet")
    _check_share(counts, quarantine, max_rejected_share)
    if partitions.first_day is None or partitions.last_day is None:
        raise DataGateError(f"source {source.uri} has no transaction that could be kept")
    buyers = np.unique(np.concatenate(counts.customer_hashes))
    known = np.isin(buyers, known_customers)
    return {
        "schema_version": SCHEMA_VERSION,
        "n_transactions": partitions.n_rows,
        "n_articles": n_articles,
        "n_customers": n_customers,
        "n_customers_without_row": int((~known).sum()),
        "n_rejected": quarantine.by_rule.total(),
        "n_repaired": counts.n_repaired,
        "n_replayed": counts.n_replayed,
        "rejected_by_rule": dict(sorted(quarantine.by_rule.items())),
        "first_day": partitions.first_day.isoformat(),
        "last_day": partitions.last_day.isoformat(),
    }


def _check_share(counts: Counts, quarantine: Quarantine, max_rejected_share: float) -> None:
    """Refuse when of some file more rows are bad than may be."""
    for name, n_read in counts.read.items():
        n_rejected = quarantine.by_file[name]
        if n_rejected > max_rejected_share * n_read:
            raise DataGateError(
                f"{name}: {n_rejected:,} of {n_read:,} rows were rejected ({n_rejected / n_read:.2%}), at most "
                f"{max_rejected_share:.2%} may be (max-rejected-share)\n{quarantine.table()}"
            )


def _table(
    source: Source, table: str, columns: dict[str, pl.DataType], scratch: Path, replay: Replay, counts: Counts
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read articles or customers, typed; rejects beside them."""
    key = REQUIRED_COLUMNS[table][0]
    if isinstance(source, SyntheticSource):
        from pipelines.data.synthetic.shop import Shop
        from pipelines.data.synthetic.tables import articles_table, customers_table

        made = (articles_table if table == "articles" else customers_table)(Shop(source.size))
        return made.cast(columns), pl.DataFrame()  # type: ignore[arg-type]
    file = source.files[table]
    rows = _text_rows(file, table, list(columns), scratch)
    counts.read[file.name] = len(rows)
    good, rejects, n_repaired = judge_keys(rows, key, list(columns))
    rejects = replay.without_mended(rejects)
    mended = replay.of_file(file.name, list(columns))
    if len(mended):
        good, still_bad, n_repaired = judge_keys(pl.concat([good.select(mended.columns), mended]), key, list(columns))
        rejects = pl.concat([rejects, still_bad])
        counts.n_replayed += len(mended) - len(still_bad)
    counts.n_repaired += n_repaired
    if good.is_empty():
        first = rejects.row(0, named=True)
        column = first["column"]
        what = f"its {column} {first['value']!r}: {first['reason']}. Mend that column" if column else first["reason"]
        raise DataGateError(
            f"{file.name} has no row that could be kept; the first, line {first['line']}, was refused"
            + (f" for {what} in the file and run again" if column else f": {what}. Mend the file and run again")
        )
    # Attributes that do not parse become null: nothing is lost by it but the one attribute.
    numbers = [
        pl.col(name).cast(pl.Float64, strict=False).cast(dtype, strict=False)
        for name, dtype in columns.items()
        if dtype != pl.String()
    ]
    return good.select(*columns).with_columns(pl.col(pl.String).replace("", None)).with_columns(numbers), rejects


def _text_rows(file: SourceFile, table: str, columns: Sequence[str], scratch: Path) -> pl.DataFrame:
    """Read a small table as text, with lines."""
    if file.name.endswith(".parquet"):
        frames = [_as_text(rows, file.name, line, columns) for line, rows in _parquet_batches(file, table, scratch)]
        if not frames:
            raise DataGateError(f"{file.name} has no rows; is the export complete?")
        return pl.concat(frames)
    with file.open() as stream:
        block = read_whole(stream, file.name, REQUIRED_COLUMNS[table])
    # Of the three tables only articles have free text, which may run over lines.
    return block.text(columns, newlines_in_values=table == "articles")


def _transactions(
    source: Source,
    rules: RowRules,
    partitions: WeeklyPartitions,
    quarantine: Quarantine,
    replay: Replay,
    counts: Counts,
    scratch: Path,
) -> None:
    """Stream transactions through the rules into weekly files and quarantine, in the source's order."""
    name = source.files["transactions"].name if isinstance(source, FileSource) else "transactions"
    counts.read[name] = 0

    def judge(piece: tuple[int, Block | pa.Table]) -> tuple[pa.Table, pl.DataFrame, int, NDArray[np.uint64]]:
        line, rows = piece
        table = rows.typed() if isinstance(rows, Block) else _as_typed(rows)
        if table is not None and rules.are_all_met(table):
            return table, pl.DataFrame(), 0, customer_hashes(table)
        text = (
            rows.text(TRANSACTION_COLUMNS)
            if isinstance(rows, Block)
            else _as_text(rows, name, line, TRANSACTION_COLUMNS)
        )
        good, rejects, n_repaired = rules.judge(text)
        typed = to_typed(good)
        return typed, rejects, n_repaired, customer_hashes(typed)

    def take(judged: tuple[pa.Table, pl.DataFrame, int, NDArray[np.uint64]]) -> None:
        table, rejects, n_repaired, hashes = judged
        counts.read[name] += len(table) + len(rejects)
        counts.n_repaired += n_repaired
        counts.customer_hashes.append(hashes)
        if len(counts.customer_hashes) > 32:  # the same customers come again and again
            counts.customer_hashes[:] = [np.unique(np.concatenate(counts.customer_hashes))]
        partitions.add(table)
        if len(rejects):
            quarantine.add(replay.without_mended(rejects))

    with ThreadPoolExecutor(PARSERS) as pool:
        waiting: deque[Future[tuple[pa.Table, pl.DataFrame, int, NDArray[np.uint64]]]] = deque()
        for piece in _pieces(source, scratch):
            waiting.append(pool.submit(judge, piece))
            if len(waiting) > PARSERS:
                take(waiting.popleft().result())
        while waiting:
            take(waiting.popleft().result())
    mended = replay.of_file(name, TRANSACTION_COLUMNS)
    if len(mended):
        good, still_bad, n_repaired = rules.judge(mended)
        counts.n_replayed += len(good)
        counts.n_repaired += n_repaired
        typed = to_typed(good)
        counts.customer_hashes.append(customer_hashes(typed))
        partitions.add(typed)
        quarantine.add(still_bad)
    if not counts.read[name]:
        raise DataGateError(f"{name} has no rows; is the export complete?")


def _pieces(source: Source, scratch: Path) -> Iterator[tuple[int, Block | pa.Table]]:
    if isinstance(source, SyntheticSource):
        from pipelines.data.synthetic.shop import Shop
        from pipelines.data.synthetic.tables import transactions_tables

        for week in transactions_tables(Shop(source.size)):
            yield 1, week
        return
    file = source.files["transactions"]
    if file.name.endswith(".parquet"):
        yield from _parquet_batches(file, "transactions", scratch)
        return
    with file.open() as stream:
        for block in read_blocks(stream, file.name, TRANSACTION_COLUMNS):
            yield block.first_line, block


def _parquet_batches(file: SourceFile, table: str, scratch: Path) -> Iterator[tuple[int, pa.Table]]:
    """Read a Parquet table piece by piece; a row's line is its number, from 1."""
    path = file.local_path(scratch)
    try:
        columns = pq.read_schema(path).names
        ids = [name for name in ("customer_id", "article_id") if name in columns]
        reader = pq.ParquetFile(path, read_dictionary=ids)
    except pa.ArrowInvalid as error:
        raise DataGateError(f"{file.name} is damaged or no Parquet: {error}") from error
    missing = [name for name in REQUIRED_COLUMNS[table] if name not in columns]
    if missing:
        raise DataGateError(missing_columns(file.name, columns, missing))
    line = 1
    wanted = TRANSACTION_COLUMNS if table == "transactions" else None
    for batch in reader.iter_batches(BATCH_ROWS, columns=wanted):
        yield line, pa.Table.from_batches([batch])
        line += len(batch)


def _as_typed(table: pa.Table) -> pa.Table | None:
    """Give a table the types of transactions; None when some value has no such form."""
    columns = []
    for name, wanted in zip(TRANSACTION_SCHEMA.names, TRANSACTION_SCHEMA.types, strict=True):
        column = table[name]
        try:
            if pa.types.is_dictionary(wanted) and not pa.types.is_dictionary(column.type):
                column = column.cast(pa.string()).dictionary_encode()
            columns.append(column.cast(wanted))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
    return pa.table(columns, schema=TRANSACTION_SCHEMA)


def _as_text(table: pa.Table, name: str, line: int, columns: Sequence[str]) -> pl.DataFrame:
    """Spell a table out as the CSV reader would have given it."""
    frame = pl.DataFrame(table)
    missing = [pl.lit(None, pl.String).alias(column) for column in columns if column not in frame.columns]
    frame = frame.with_columns(*missing).select(pl.col(column).cast(pl.String) for column in columns)
    return frame.with_columns(
        file=pl.lit(name),
        line=pl.int_range(line, line + len(frame), dtype=pl.Int64),
        problem=pl.lit(None, pl.String),
        text=pl.lit(None, pl.String),
    ).select("file", "line", "problem", "text", *columns)


def to_typed(good: pl.DataFrame) -> pa.Table:
    """Turn judged rows into the form of typed tables."""
    table = good.to_arrow()
    columns = [
        column.cast(pa.string()).dictionary_encode() if name in ("customer_id", "article_id") else column.cast(wanted)
        for name, column, wanted in zip(table.column_names, table.columns, TRANSACTION_SCHEMA.types, strict=True)
    ]
    return pa.table(columns, schema=TRANSACTION_SCHEMA)


def _product_codes(article_ids: pl.Series) -> pl.Series:
    """Take the first 7 of 10 digits for the product, as H&M numbers its articles; where they hold no colour variants
    (ids that just count up would make products of 1,000 articles) every article is a product of its own.
    """
    prefixes = article_ids.str.slice(0, 7)
    return prefixes if len(prefixes) <= MAX_VARIANTS * prefixes.n_unique() else article_ids
