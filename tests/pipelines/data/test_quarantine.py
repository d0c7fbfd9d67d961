from pathlib import Path

import polars as pl
import pytest

from pipelines.data.quarantine import Quarantine, Replay
from pipelines.data.schema import REJECT_COLUMNS, TRANSACTION_COLUMNS
from pipelines.errors import UsageError


def rejects_of(*rows: tuple[int, str, str]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "file": "transactions.csv",
                "line": line,
                "column": "price",
                "value": value,
                "rule": rule,
                "reason": f"because of {rule}",
                **dict.fromkeys(TRANSACTION_COLUMNS, "x"),
                "price": value,
            }
            for line, value, rule in rows
        ]
    )


def test_both_files_are_there_even_when_nothing_was_rejected(tmp_path: Path) -> None:
    with Quarantine(tmp_path):
        pass
    columns = [*REJECT_COLUMNS, *TRANSACTION_COLUMNS]
    assert (tmp_path / "rejected.csv").read_text() == ",".join(columns) + "\n"
    assert pl.read_parquet(tmp_path / "rejected.parquet").columns == columns


def test_rows_of_several_blocks_are_kept_and_counted(tmp_path: Path) -> None:
    first, second = (
        rejects_of((3, "free", "price_not_a_number"), (9, "-1", "price_negative")),
        rejects_of((11, 'odd, "quoted"\nvalue', "price_not_a_number")),
    )
    with Quarantine(tmp_path) as quarantine:
        quarantine.add(first)
        quarantine.add(second)
    assert quarantine.by_rule == {"price_not_a_number": 2, "price_negative": 1}
    assert quarantine.by_file == {"transactions.csv": 3}
    expected = pl.concat([first, second])
    assert pl.read_parquet(tmp_path / "rejected.parquet").equals(expected)
    assert pl.read_csv(tmp_path / "rejected.csv", infer_schema=False).equals(expected.cast(pl.String))


def test_the_table_shows_reasons_by_frequency_with_their_first_example(tmp_path: Path) -> None:
    with Quarantine(tmp_path) as quarantine:
        quarantine.add(rejects_of((3, "-1", "price_negative"), (4, "x" * 50, "price_odd"), (5, "y", "price_odd")))
    lines = quarantine.table().splitlines()
    assert "rejected rows" in lines[0]
    body = [line for line in lines if "transactions.csv" in line]
    assert "price_odd" in body[0]
    assert "x" * 33 + "…" in body[0]
    assert "price_negative" in body[1]
    assert "because of price_negative" in body[1]


def test_a_mended_row_stands_in_for_the_reject_of_its_place_only(tmp_path: Path) -> None:
    rejects = rejects_of((3, "free", "a"), (9, "-1", "b"))
    rejects.filter(pl.col("line") == 3).with_columns(price=pl.lit("0.5")).write_csv(tmp_path / "mended.csv")
    replay = Replay.read(tmp_path / "mended.csv")
    assert replay.without_mended(rejects)["line"].to_list() == [9]
    rows = replay.of_file("transactions.csv", TRANSACTION_COLUMNS)
    assert rows.select("line", "price", "problem").rows() == [(3, "0.5", None)]


def test_a_row_that_was_never_rejected_is_not_taken_in_twice(tmp_path: Path) -> None:
    rejects_of((3, "0.5", "a")).write_csv(tmp_path / "mended.csv")
    replay = Replay.read(tmp_path / "mended.csv")
    replay.without_mended(rejects_of((9, "-1", "b")))
    with pytest.raises(UsageError, match=r"transactions\.csv line 3 is not among the rejected rows"):
        replay.of_file("transactions.csv", TRANSACTION_COLUMNS)


def test_a_later_replay_wins_over_an_earlier_one_of_the_same_place() -> None:
    earlier, later = Replay(rejects_of((3, "1", "a"), (4, "2", "a"))), Replay(rejects_of((4, "9", "a")))
    assert later.over(earlier).rows.select("line", "price").rows() == [(3, "1"), (4, "9")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,price\nt.csv,1\n", "has no column 'line': they name the row"),
        ("file,line\nt.csv,first\n", "line 'first' is not a whole number"),
        ("file,line\nt.csv,3\nt.csv,3\n", r"has t\.csv line 3 more than once; keep one row"),
        ("file,line\nt.csv,3,4\n", "cannot be read"),
    ],
)
def test_a_replay_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mended.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        Replay.read(tmp_path / "mended.csv")


def test_a_replay_of_a_file_that_the_source_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rows of 'transactions\.csv', and the source has articles\.csv"):
        Replay(rejects_of((3, "1", "a"))).check_files(["articles.csv"])
