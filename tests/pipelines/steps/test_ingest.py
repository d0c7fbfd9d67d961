import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import ArtefactError, DataGateError, LakeFull, UsageError
from pipelines.lake import Lake, open_lake
from pipelines.steps.ingest import IngestRequest
from pipelines.steps.manifest import read_manifest
from tests.pipelines.data.kaggle_folder import (
    ANNA,
    ARTICLES,
    BEA,
    CLEO,
    CUSTOMERS,
    HEADER,
    SHIRT,
    SKIRT,
    SOCKS,
    KaggleFolder,
    purchase,
)
from tests.pipelines.steps.ingested import NOW, read, table, transactions

REAL = Path(__file__).parents[4] / "shared" / "data" / "hm"


def test_a_folder_becomes_typed_tables_with_facts(lake: Lake, tmp_path: Path) -> None:
    purchases = [
        purchase(),
        purchase(),
        purchase("2020-01-13", CLEO, SKIRT, "0.1", "1"),
        purchase("2020-01-07", BEA, SOCKS[1:]),
    ]
    manifest = read(lake, KaggleFolder(purchases=purchases).write(tmp_path / "shop"))
    assert sorted(manifest.files) == [
        "articles.parquet",
        "customers.parquet",
        "quarantine/rejected.csv",
        "quarantine/rejected.parquet",
        "transactions/week=2020-01-06/part.parquet",
        "transactions/week=2020-01-13/part.parquet",
    ]
    facts = {name: value for name, value in manifest.facts.items() if name != "source"}
    assert facts == {
        "schema_version": 1,
        "n_transactions": 4,
        "n_articles": 3,
        "n_customers": 2,
        "n_customers_without_row": 1,
        "n_rejected": 0,
        "n_repaired": 1,
        "n_replayed": 0,
        "rejected_by_rule": {},
        "first_day": "2020-01-06",
        "last_day": "2020-01-13",
    }
    assert manifest.facts["source"]["files"]["transactions.csv"]["size_bytes"] == 429
    rows = transactions(lake, manifest)
    assert rows["article_id"].to_list() == [SHIRT, SHIRT, SOCKS, SKIRT]
    assert dict(rows.schema) == {
        "t_dat": pl.Date,
        "customer_id": pl.String,
        "article_id": pl.String,
        "price": pl.Float64,
        "sales_channel_id": pl.Int8,
    }
    articles = table(lake, manifest, "articles.parquet")
    assert articles.width == 25
    assert articles.select("article_id", "product_code", "product_type_no", "detail_desc", "index_name").rows() == [
        (SHIRT, "100000", 259, "Shirt in linen, with a collar.", None),
        (SKIRT, "200000", 275, "Skirt.", None),
        (SOCKS, "300000", 302, "Two\nlines.", None),
    ]
    customers = table(lake, manifest, "customers.parquet")
    assert customers.select("customer_id", "FN", "age").rows() == [(ANNA, 1.0, 24.0), (BEA, None, 51.0)]
    assert customers.schema["age"] == pl.Float32


def test_tables_of_ids_only_are_enough(folder_lake: Lake, tmp_path: Path) -> None:
    shop = KaggleFolder(articles=["article_id", SHIRT], customers=["customer_id", ANNA]).write(tmp_path / "shop")
    manifest = read(folder_lake, shop)
    assert table(folder_lake, manifest, "articles.parquet")["product_code"].to_list() == [SHIRT[:7]]
    assert table(folder_lake, manifest, "customers.parquet")["age"].to_list() == [None]


def test_csv_gzip_and_parquet_of_the_same_rows_give_the_same_transactions(folder_lake: Lake, tmp_path: Path) -> None:
    plain = KaggleFolder(purchases=[purchase(), purchase("2020-02-01", BEA, SKIRT, "0.125", "1")])
    plain.write(tmp_path / "csv")
    plain.write(tmp_path / "gzip")
    (tmp_path / "gzip" / "transactions.csv").unlink()
    with gzip.open(tmp_path / "gzip" / "transactions_train.csv.gz", "wb") as packed:
        packed.write(plain.transactions_text.encode())
    plain.write(tmp_path / "parquet")
    (tmp_path / "parquet" / "transactions.csv").unlink()
    # As pandas writes it without a dtype: ids are numbers, and their zeros are gone.
    frame = pl.read_csv(tmp_path / "csv" / "transactions.csv", try_parse_dates=True)
    assert frame.schema["article_id"] == pl.Int64
    frame.write_parquet(tmp_path / "parquet" / "transactions.parquet")
    manifests = {kind: read(folder_lake, tmp_path / kind, kind) for kind in ("csv", "gzip", "parquet")}
    shas = {
        kind: {name: file.sha256 for name, file in manifest.files.items() if name.startswith("transactions/")}
        for kind, manifest in manifests.items()
    }
    assert shas["csv"] == shas["gzip"] == shas["parquet"]
    assert manifests["parquet"].facts["n_repaired"] == 2


def test_articles_and_customers_may_be_parquet_with_ids_as_numbers(folder_lake: Lake, tmp_path: Path) -> None:
    plain = KaggleFolder()
    plain.write(tmp_path / "shop")
    for name in ("articles", "customers"):
        path = tmp_path / "shop" / f"{name}.csv"
        pl.read_csv(path).write_parquet(path.with_suffix(".parquet"))
        path.unlink()
    manifest = read(folder_lake, tmp_path / "shop")
    articles = table(folder_lake, manifest, "articles.parquet")
    assert articles.select("article_id", "product_code", "product_type_no").row(0) == (SHIRT, "100000", 259)
    assert table(folder_lake, manifest, "customers.parquet").select("customer_id", "age").row(1) == (BEA, 51.0)
    (tmp_path / "shop" / "articles.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataGateError, match=r"articles\.parquet is damaged or no Parquet"):
        read(folder_lake, tmp_path / "shop")
    pl.DataFrame({"article": [1]}).write_parquet(tmp_path / "shop" / "articles.parquet")
    with pytest.raises(DataGateError, match=r"articles\.parquet line 1: no column 'article_id' \(is it 'article'\?\)"):
        read(folder_lake, tmp_path / "shop")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda shop: (shop / "transactions.csv").write_bytes(b""), r"transactions\.csv is empty"),
        (lambda shop: (shop / "articles.csv").write_text("article_id;prod_name\n1;2\n"), "separated by semicolons"),
        (lambda shop: (shop / "customers.csv").write_text("customer,age\na,1\n"), r"is it 'customer'\?"),
        (lambda shop: (shop / "customers.csv").write_text("customer_id,age\n"), "has a header and no rows"),
        (lambda shop: (shop / "transactions.csv").write_text(HEADER + "\n"), "has a header and no rows"),
        (lambda shop: (shop / "transactions.csv").write_bytes(f"{HEADER}\r{purchase()}\r".encode()), "old Macs"),
        (lambda shop: (shop / "articles.csv").write_text("x" * 200_000), r"articles\.csv line 1 is no header"),
    ],
)
def test_a_broken_file_stops_the_run_and_publishes_nothing(
    folder_lake: Lake, tmp_path: Path, break_it: Callable[[Path], object], message: str
) -> None:
    shop = KaggleFolder().write(tmp_path / "shop")
    break_it(shop)
    with pytest.raises(DataGateError, match=message) as caught:
        read(folder_lake, shop)
    assert not folder_lake.exists("raw/run-1/manifest.json")
    assert "replay" not in str(caught.value)  # no row was rejected, so there is none to mend


def test_a_byte_order_mark_changes_nothing(folder_lake: Lake, tmp_path: Path) -> None:
    shop = KaggleFolder().write(tmp_path / "shop")
    plain = read(folder_lake, shop, "plain")
    for path in shop.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    marked = read(folder_lake, shop, "marked")
    assert {name: file.sha256 for name, file in marked.files.items()} == {
        name: file.sha256 for name, file in plain.files.items()
    }


def test_a_spreadsheet_that_dropped_every_zero_is_repaired_and_counted(folder_lake: Lake, tmp_path: Path) -> None:
    purchases = [purchase(article_id=article[1:]) for article in (SHIRT, SKIRT, SOCKS)]
    articles = [line.removeprefix("0") for line in ARTICLES]
    manifest = read(folder_lake, KaggleFolder(purchases=purchases, articles=articles).write(tmp_path / "shop"))
    assert transactions(folder_lake, manifest)["article_id"].to_list() == [SHIRT, SKIRT, SOCKS]
    assert manifest.facts["n_repaired"] == 6


def test_a_synthetic_shop_is_the_same_as_its_csv_files(folder_lake: Lake, tmp_path: Path) -> None:
    from pipelines.data.synthetic.__main__ import write_csv
    from pipelines.data.synthetic.shop import Shop
    from pipelines.data.synthetic.size import parse_shop_uri

    uri = "synthetic://?customers=60&weeks=12&seed=3"
    write_csv(Shop(parse_shop_uri(uri)), tmp_path / "shop")
    streamed, written = read(folder_lake, uri, "streamed"), read(folder_lake, tmp_path / "shop", "written")
    assert {name: file.sha256 for name, file in streamed.files.items()} == {
        name: file.sha256 for name, file in written.files.items()
    }
    assert streamed.facts["n_transactions"] == written.facts["n_transactions"] > 100
    assert streamed.facts["n_customers_without_row"] == 0


def test_rejected_rows_are_kept_whole_and_good_ones_stay(lake: Lake, tmp_path: Path) -> None:
    bad = [purchase(price="free"), "2020-01-06,half a row", purchase("2020-09-24"), purchase(article_id="0999999999")]
    shop = KaggleFolder(purchases=[purchase()] * 96 + bad).write(tmp_path / "shop")
    manifest = read(lake, shop, max_rejected_share=0.04)
    assert manifest.facts["n_transactions"] + manifest.facts["n_rejected"] == 100
    assert manifest.facts["rejected_by_rule"] == {
        "article_unknown": 1,
        "columns": 1,
        "date_future": 1,
        "price_not_a_number": 1,
    }
    rejected = table(lake, manifest, "quarantine/rejected.parquet")
    assert rejected.select("file", "line", "column", "value", "rule").rows() == [
        ("transactions.csv", 98, "price", "free", "price_not_a_number"),
        ("transactions.csv", 99, None, "2020-01-06,half a row", "columns"),
        ("transactions.csv", 100, "t_dat", "2020-09-24", "date_future"),
        ("transactions.csv", 101, "article_id", "0999999999", "article_unknown"),
    ]
    assert rejected["customer_id"].to_list() == [ANNA, None, ANNA, ANNA]


def test_too_many_rejects_stop_the_run_with_a_table_and_lose_nothing(lake: Lake, tmp_path: Path) -> None:
    bad = [purchase(article_id="7.06016E+08")] * 2
    shop = KaggleFolder(purchases=[purchase()] * 98 + bad).write(tmp_path / "shop")
    with pytest.raises(DataGateError) as caught:
        read(lake, shop)
    message = str(caught.value)
    assert message.startswith("transactions.csv: 2 of 100 rows were rejected (2.00%), at most 1.00% may be")
    assert "article_id_format" in message
    assert "a spreadsheet wrote the id as a number and lost digits; export it again as text" in " ".join(
        message.replace("│", " ").split()
    )
    key = "raw/run-1/refused/rejected.csv"
    assert lake.uri_of(key) in message
    command = (
        f"python -m pipelines.steps.ingest --lake {lake.uri} --run-id mended --source {shop} --replay rejected.csv"
    )
    assert command in message.splitlines()[-3]
    assert message.endswith(f"python -m pipelines.submit --local --lake {lake.uri} -p data-version=mended")
    kept = pl.read_csv(lake.read_bytes(key), infer_schema=False)
    assert kept.select("line", "article_id").rows() == [("100", "7.06016E+08"), ("101", "7.06016E+08")]
    with pytest.raises(ArtefactError, match="has no finished ingest step"):
        read_manifest(lake, "ingest", "run-1")


def test_a_refused_source_passes_once_its_rows_are_mended(folder_lake: Lake, tmp_path: Path) -> None:
    shop = KaggleFolder(purchases=[purchase()] * 8 + [purchase(price='"0,5"')] * 2).write(tmp_path / "shop")
    with pytest.raises(DataGateError, match=r"2 of 10 rows were rejected"):
        read(folder_lake, shop)
    refused = pl.read_csv(folder_lake.read_bytes("raw/run-1/refused/rejected.csv"), infer_schema=False)
    refused.with_columns(pl.col("price").str.replace(",", ".")).write_csv(tmp_path / "mended.csv")
    manifest = read(folder_lake, shop, replay=tmp_path / "mended.csv")
    assert sorted(transactions(folder_lake, manifest)["price"].to_list()) == [0.025] * 8 + [0.5] * 2
    assert (manifest.facts["n_rejected"], manifest.facts["n_replayed"]) == (0, 2)


def test_an_open_quote_costs_one_purchase_or_customer_and_not_those_behind_it(
    folder_lake: Lake, tmp_path: Path
) -> None:
    purchases = [purchase(customer_id=f"c{number}") for number in range(200)]
    purchases[50] = f'"{purchases[50]}'
    customers = [CUSTOMERS[0], *(f"c{number},,,ACTIVE,NONE,30.0,x" for number in range(200))]
    customers[101] = f'"{customers[101]}'
    manifest = read(folder_lake, KaggleFolder(purchases=purchases, customers=customers).write(tmp_path / "shop"))
    counts = {name: manifest.facts[name] for name in ("n_transactions", "n_customers", "rejected_by_rule")}
    assert counts == {"n_transactions": 199, "n_customers": 199, "rejected_by_rule": {"columns": 2}}


def test_rejects_of_the_other_tables_keep_their_own_columns(folder_lake: Lake, tmp_path: Path) -> None:
    shop = KaggleFolder(articles=[*ARTICLES, f"{SHIRT},100000,Again,259,x"], customers=[*CUSTOMERS, ",,,,,31,"])
    with pytest.raises(DataGateError, match=r"articles\.csv: 1 of 4 rows were rejected \(25\.00%\)"):
        read(folder_lake, shop.write(tmp_path / "shop"))
    manifest = read(folder_lake, tmp_path / "shop", max_rejected_share=0.5)
    rejected = table(folder_lake, manifest, "quarantine/rejected.parquet")
    assert rejected.select("file", "line", "rule", "prod_name", "age").rows() == [
        ("articles.csv", 6, "key_repeated", "Again", None),
        ("customers.csv", 4, "customer_missing", None, "31"),
    ]


def test_a_data_version_is_used_as_it_is_without_its_source(folder_lake: Lake, tmp_path: Path) -> None:
    shop = KaggleFolder().write(tmp_path / "shop")
    first = read(folder_lake, shop, "first")
    (shop / "transactions.csv").unlink()
    second = read(folder_lake, shop, "second", data_version="first")
    assert (second.run_id, second.files) == ("second", first.files)
    assert read_manifest(folder_lake, "ingest", "second") == second
    with pytest.raises(ArtefactError, match="run 'third' has no finished ingest step"):
        read(folder_lake, shop, "fourth", data_version="third")


def test_an_unchanged_source_is_not_read_again(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = KaggleFolder().write(tmp_path / "shop")
    later = datetime.now(UTC) + timedelta(seconds=10)  # files older than two seconds are settled
    first = read(lake, shop, "first", now=later)
    monkeypatch.setattr("pipelines.data.sources_folder.LocalFile.open", lambda _: pytest.fail("the source is read"))
    again = read(lake, shop, "again", now=later)
    assert (again.produced_by, again.files) == ("first", first.files)


def test_a_source_that_changed_within_the_tick_of_its_clock_is_read_again(folder_lake: Lake, tmp_path: Path) -> None:
    shop = KaggleFolder(purchases=[purchase(price="0.1")]).write(tmp_path / "shop")
    path, now = shop / "transactions.csv", datetime.now(UTC)
    stat = path.stat()
    read(folder_lake, shop, "first", now=now)
    path.write_text(path.read_text().replace("0.1", "0.2"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert transactions(folder_lake, read(folder_lake, shop, "second", now=now))["price"].to_list() == [0.2]


def test_the_same_files_elsewhere_are_the_same_data(folder_lake: Lake, tmp_path: Path) -> None:
    read(folder_lake, KaggleFolder().write(tmp_path / "here"), "first")
    again = read(folder_lake, KaggleFolder().write(tmp_path / "there"), "again")
    assert again.produced_by == "first"


def test_what_was_in_the_future_is_judged_anew_on_another_day(folder_lake: Lake, tmp_path: Path) -> None:
    shop = KaggleFolder(purchases=[purchase(), purchase("2020-09-24")]).write(tmp_path / "shop")
    assert read(folder_lake, shop, "today", max_rejected_share=0.5).facts["n_rejected"] == 1
    tomorrow = read(folder_lake, shop, "tomorrow", max_rejected_share=0.5, now=NOW + timedelta(days=1))
    assert (tomorrow.facts["n_rejected"], tomorrow.facts["n_transactions"]) == (0, 2)


def test_a_disk_that_fills_up_is_said_and_leaves_nothing_half(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs root")
    try:
        full = open_lake(str(disk / "lake"))
        with pytest.raises(LakeFull, match=r"no space is left for .*; free some or choose another place"):
            read(full, "synthetic://?customers=8000&weeks=30")
        assert [key for key in full.list() if key.startswith("raw/")] == []
        assert list((disk / "lake" / ".scratch").glob("*/")) == []
        assert read(full, "synthetic://?customers=50&weeks=4", "small").facts["n_transactions"] > 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.s3
def test_a_source_on_s3_is_read_once_and_known_by_its_etags(
    folder_lake: Lake, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    shop = KaggleFolder().write(tmp_path / "shop")
    client = boto3.client("s3")
    for path in shop.iterdir():
        client.upload_file(str(path), s3_bucket, f"kaggle/{path.name}")
    client.close()
    uri = f"s3://{s3_bucket}/kaggle"
    first, local = read(folder_lake, uri, "first"), read(folder_lake, shop, "local")
    assert {name: file.sha256 for name, file in first.files.items()} == {
        name: file.sha256 for name, file in local.files.items()
    }
    for name, file in first.facts["source"]["files"].items():
        assert file["sha256"] == local.facts["source"]["files"][name]["sha256"]
    monkeypatch.setattr("pipelines.data.sources_s3.S3File.open", lambda _: pytest.fail("the source is read"))
    assert read(folder_lake, uri, "again").produced_by == "first"


@pytest.mark.s3
def test_a_source_on_s3_that_is_not_there_says_so(s3_bucket: str, folder_lake: Lake) -> None:
    with pytest.raises(UsageError, match=r"source s3://.*/nothing/here holds nothing"):
        read(folder_lake, f"s3://{s3_bucket}/nothing/here")
    with pytest.raises(UsageError, match=r"source: the bucket 'no-such-bucket' does not exist .* correct --source"):
        read(folder_lake, "s3://no-such-bucket/kaggle")


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="max-rejected-share is"):
        IngestRequest("run-1", "x", max_rejected_share=share)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipelines.steps.ingest", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_prints_its_facts_as_the_one_line_on_stdout(tmp_path: Path) -> None:
    shop = KaggleFolder().write(tmp_path / "shop")
    arguments = ["--lake", str(tmp_path / "lake"), "--run-id", "r", "--source", str(shop), "--data-version", "latest"]
    done = run(*arguments, "--max-rejected-share", "0.01")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == read_manifest(open_lake(str(tmp_path / "lake")), "ingest", "r").facts
    assert "step_finished" in done.stderr


def test_the_command_exits_3_with_the_table_when_the_gate_refuses(tmp_path: Path) -> None:
    shop = KaggleFolder(purchases=[purchase(price="free")]).write(tmp_path / "shop")
    done = run("--lake", str(tmp_path / "lake"), "--run-id", "r", "--source", str(shop))
    assert (done.returncode, done.stdout) == (3, "")
    assert "error: transactions.csv: 1 of 1 rows were rejected (100.00%)" in done.stderr
    assert "price_not_a_number" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reused_step_loads_neither_polars_nor_arrow(tmp_path: Path) -> None:
    shop = KaggleFolder().write(tmp_path / "shop")
    lake = tmp_path / "lake"
    read(open_lake(str(lake)), shop, "first", now=datetime.now(UTC))
    code = (
        "import sys; from datetime import datetime, UTC; from pipelines.lake import open_lake\n"
        "from pipelines.steps.ingest import IngestRequest, ingest\n"
        f"manifest = ingest(open_lake({str(lake)!r}), IngestRequest('again', {str(shop)!r}), now=datetime.now(UTC))\n"
        "print(manifest.produced_by, sorted({'polars', 'pyarrow', 'numpy', 'boto3'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "first []"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real sample is not there: {REAL}")
def test_the_real_sample_is_read_without_a_loss(folder_lake: Lake) -> None:
    manifest = read(folder_lake, REAL)
    assert {name: manifest.facts[name] for name in ("n_transactions", "n_articles", "n_customers", "n_rejected")} == {
        "n_transactions": 31_662,
        "n_articles": 105_542,
        "n_customers": 1_364,
        "n_rejected": 0,
    }
    assert (manifest.facts["first_day"], manifest.facts["last_day"]) == ("2018-09-20", "2020-09-22")


def test_articles_with_ids_of_another_form_stop_with_the_line_the_value_and_the_mend(
    folder_lake: Lake, tmp_path: Path
) -> None:
    articles = [ARTICLES[0], *(line.replace("0100000001", "SHIRT-1") for line in ARTICLES[1:2])]
    source = KaggleFolder(articles=articles).write(tmp_path / "source")
    wanted = "articles.csv has no row that could be kept; .* line 2, .* article_id 'SHIRT-1': expected 10 digits"
    with pytest.raises(DataGateError, match=wanted):
        read(folder_lake, source)


def test_a_file_in_another_encoding_is_refused_for_its_text(folder_lake: Lake, tmp_path: Path) -> None:
    source = KaggleFolder().write(tmp_path / "source")
    (source / "articles.csv").write_bytes(b"article_id,prod_name\n0100000001,R\xf6hre\n")
    wanted = (
        r"articles.csv has no row that could be kept; the first, line 2, was refused: the row is not UTF-8 text\. Mend"
    )
    with pytest.raises(DataGateError, match=wanted):
        read(folder_lake, source)
