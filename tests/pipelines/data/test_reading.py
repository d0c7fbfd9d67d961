import gzip
import io
import itertools

import polars as pl
import pytest

from pipelines.data.reading import Block, read_blocks, read_whole
from pipelines.data.schema import TRANSACTION_COLUMNS
from pipelines.errors import DataGateError
from tests.pipelines.data.kaggle_folder import ANNA, HEADER, SHIRT, KaggleFolder, purchase

PURCHASES = [purchase(t_dat=f"2020-01-{day:02}", price=str(day / 100)) for day in range(1, 31)]


def blocks_of(data: bytes, name: str = "transactions.csv", block_bytes: int = 2**24) -> list[Block]:
    return list(read_blocks(io.BytesIO(data), name, TRANSACTION_COLUMNS, block_bytes=block_bytes))


def data_of(purchases: list[str]) -> bytes:
    return KaggleFolder(purchases=purchases).transactions_text.encode()


@pytest.mark.parametrize("block_bytes", [1, 64, 200, 1000, 2**24])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last_line_ends", [True, False])
def test_blocks_hold_each_line_once_under_its_number(block_bytes: int, ending: bytes, last_line_ends: bool) -> None:
    data = data_of(PURCHASES).replace(b"\n", ending)
    data = data if last_line_ends else data.removesuffix(ending)
    found = {}
    for block in blocks_of(data, block_bytes=block_bytes):
        for offset, line in enumerate(block.data.splitlines()):
            found[block.first_line + offset] = line.decode()
    assert found == dict(zip(itertools.count(2), PURCHASES, strict=False))


def test_a_typed_block_carries_ids_as_dictionaries() -> None:
    table = blocks_of(data_of(PURCHASES))[0].typed()
    assert table is not None
    assert table["customer_id"].chunk(0).dictionary.to_pylist() == [ANNA]
    assert table["price"].to_pylist()[:2] == [0.01, 0.02]


def test_a_block_with_one_bad_value_is_read_as_text_with_lines() -> None:
    block = blocks_of(data_of([PURCHASES[0], purchase(price="free"), PURCHASES[2]]))[0]
    assert block.typed() is None
    text = block.text(TRANSACTION_COLUMNS)
    assert text.select("line", "price", "problem").rows() == [(2, "0.01", None), (3, "free", None), (4, "0.03", None)]


def test_rows_with_too_few_or_too_many_columns_are_kept_whole_under_their_line() -> None:
    purchases = [PURCHASES[0], "2020-01-02,short", "", f"{PURCHASES[1]},9", PURCHASES[2]]
    text = blocks_of(data_of(purchases))[0].text(TRANSACTION_COLUMNS)
    assert text.select("line", "problem", "text").rows() == [
        (2, None, None),
        (3, "columns", "2020-01-02,short"),
        (5, "columns", f"{PURCHASES[1]},9"),
        (6, None, None),
    ]


def test_bytes_that_are_not_utf8_are_a_problem_of_their_row_and_stay_readable() -> None:
    data = data_of(["MARK"]).replace(b"MARK", f"2020-01-01,caf\xe9,{SHIRT},1,1".encode("latin-1"))
    text = blocks_of(data + PURCHASES[0].encode())[0].text(TRANSACTION_COLUMNS)
    assert text["problem"].to_list() == ["encoding", None]
    assert text["customer_id"][0] == "caf\\xe9"


def test_what_has_no_line_breaks_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.data.reading.LONGEST_LINE_BYTES", 1000)
    with pytest.raises(DataGateError, match=r"transactions\.csv line 3 is longer than 1,000 bytes; is it a CSV file\?"):
        blocks_of(data_of(PURCHASES[:1]) + b"x" * 5000, block_bytes=100)


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    assert blocks_of(b"\xef\xbb\xbf" + data_of(PURCHASES))[0].header == TRANSACTION_COLUMNS


def test_columns_come_in_any_order_and_unknown_ones_are_left_alone() -> None:
    header = "note,article_id,t_dat,price,sales_channel_id,customer_id"
    table = blocks_of(f"{header}\nx,{SHIRT},2020-01-01,0.5,1,{ANNA}\n".encode())[0].typed()
    assert table is not None
    assert table.column_names == list(TRANSACTION_COLUMNS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "transactions.csv is empty; is the export complete?"),
        (f"{HEADER}\n".encode(), "transactions.csv has a header and no rows; is the export complete?"),
        (HEADER.encode(), "transactions.csv has a header and no rows; is the export complete?"),
        (
            data_of(PURCHASES).replace(b",", b";"),
            "transactions.csv is separated by semicolons, expected commas; export it with commas",
        ),
        (
            data_of(PURCHASES).replace(b",", b"\t"),
            "transactions.csv is separated by tabs, expected commas; export it with commas",
        ),
        (
            data_of(PURCHASES).replace(b"article_id", b"article"),
            "transactions.csv line 1: no column 'article_id' (is it 'article'?); it has t_dat, customer_id, article, "
            "price, sales_channel_id",
        ),
        (
            data_of(PURCHASES).replace(b"price", b"Price"),
            "transactions.csv line 1: no column 'price' (is it 'Price'?); it has t_dat, customer_id, article_id, "
            "Price, sales_channel_id",
        ),
        (
            data_of(PURCHASES).replace(b"price", b"t_dat"),
            "transactions.csv line 1: no column 'price'; it has t_dat, customer_id, article_id, t_dat, "
            "sales_channel_id",
        ),
        (
            HEADER.encode("utf-16"),
            "transactions.csv is UTF-16 text; save it as 'CSV UTF-8'",
        ),
        (gzip.compress(data_of(PURCHASES)), "transactions.csv is gzip; name it .csv.gz"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_mend(data: bytes, message: str) -> None:
    with pytest.raises(DataGateError) as caught:
        blocks_of(data)
    assert str(caught.value) == message


def test_a_gzip_reads_as_its_text_and_a_cut_one_says_where_it_ends() -> None:
    # Uneven numbers keep the gzip from shrinking to its last bytes.
    data = data_of([purchase(price=str(1 / day)) for day in range(1, 20_000)])
    packed = gzip.compress(data)
    assert b"".join(block.data for block in blocks_of(packed, "t.csv.gz", 4096)) == data.split(b"\n", 1)[1]
    with pytest.raises(DataGateError, match=r"t\.csv\.gz is cut off: the gzip ends after [1-9][\d,]+ bytes of text"):
        blocks_of(packed[: len(packed) // 2], "t.csv.gz", 4096)
    with pytest.raises(DataGateError, match=r"t\.csv\.gz is damaged or no gzip"):
        blocks_of(data, "t.csv.gz")


def test_a_table_read_whole_may_hold_line_breaks_in_values() -> None:
    data = b'article_id,detail_desc\n0100000001,"one\ntwo"\n0200000001,three\nbroken\n'
    text = read_whole(io.BytesIO(data), "articles.csv", ("article_id",)).text(
        ("article_id", "detail_desc", "prod_name"), newlines_in_values=True
    )
    assert text.select("line", "article_id", "detail_desc", "prod_name", "problem").rows() == [
        (2, "0100000001", "one\ntwo", None, None),
        (4, "0200000001", "three", None, None),
        (5, None, None, None, "columns"),
    ]


@pytest.mark.parametrize(
    ("torn", "problems"),
    [
        ({3: '"' + PURCHASES[1]}, [3]),
        ({3: PURCHASES[1].replace(ANNA, '"' + ANNA), 20: PURCHASES[18].replace(ANNA, '"' + ANNA)}, [3, 20]),
        ({3: PURCHASES[1].replace(ANNA, f'"{ANNA}""'), 20: PURCHASES[18].replace(ANNA, '"')}, [3, 20]),
    ],
    ids=["alone", "a pair", "doubled"],
)
def test_a_quote_that_is_not_closed_breaks_its_own_line_and_no_other(torn: dict[int, str], problems: list[int]) -> None:
    purchases = [torn.get(line, text) for line, text in enumerate(PURCHASES, start=2)]
    block = blocks_of(data_of(purchases))[0]
    assert block.typed() is None
    text = block.text(TRANSACTION_COLUMNS)
    assert text["line"].to_list() == list(range(2, 32))
    broken = text.filter(pl.col("problem") == "columns")
    assert broken.select("line", "text").rows() == [(line, torn[line]) for line in problems]
    assert set(text.filter(pl.col("problem").is_null())["customer_id"]) == {ANNA}


@pytest.mark.parametrize("customer", [f'"{ANNA}"', '"a ""b"" c"', '"a, b"', 'a "b', '"a"b"'])
def test_quotes_that_are_closed_or_inside_a_value_are_no_fault(customer: str) -> None:
    table = blocks_of(data_of([purchase(customer_id=customer), PURCHASES[1]]))[0].typed()
    assert table is not None
    assert len(table) == 2
