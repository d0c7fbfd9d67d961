"""Write a synthetic shop as Kaggle's CSV files.

python -m pipelines.data.synthetic --customers 200 --seed 7 --out DIR."""

import json
from datetime import date
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.progress import track

from pipelines.data.synthetic.shop import Shop
from pipelines.data.synthetic.size import LAST_DAY, ShopSize
from pipelines.data.synthetic.tables import articles_table, customers_table, transactions_tables
from pipelines.edge import run_app
from pipelines.errors import UsageError
from pipelines.lake.faults import make_folder

DEFAULT = ShopSize()
FILES = ("articles.csv", "customers.csv", "transactions_train.csv")
app = typer.Typer(add_completion=False)


@app.command()
def write(
    out: Annotated[Path, typer.Option(help="folder for transactions_train.csv, articles.csv and customers.csv")],
    customers: Annotated[int, typer.Option(help="1371980 is the full size")] = DEFAULT.customers,
    articles: Annotated[int, typer.Option(help="0 = as many as such a shop has")] = 0,
    weeks: int = DEFAULT.weeks,
    transactions: Annotated[int, typer.Option(help="aimed at; 0 = as many as such a shop has")] = 0,
    seed: int = DEFAULT.seed,
    force: Annotated[bool, typer.Option("--force", help="write over the files of an earlier shop")] = False,
    until: Annotated[str, typer.Option(help="last day to write: the same shop, seen earlier")] = str(LAST_DAY),
) -> None:
    """Write a synthetic shop in Kaggle's format; the same arguments give the same bytes."""
    try:
        last_day = date.fromisoformat(until)
    except ValueError:
        raise UsageError(f"--until {until!r} is not a date YYYY-MM-DD") from None
    existing = [name for name in FILES if (out / name).exists()]
    if existing and not force:
        raise UsageError(
            f"{out} holds {', '.join(existing)} already; give another --out, or --force to write over them"
        )
    shop = Shop(ShopSize(customers, articles, weeks, transactions, seed, last_day))
    n_transactions = write_csv(shop, out)
    print(json.dumps({"source": shop.size.uri, "out": str(out), "n_transactions": n_transactions}))


def write_csv(shop: Shop, folder: Path) -> int:
    """Write the three files and count the transactions; weeks are written as they come."""
    make_folder(folder)
    articles_table(shop).write_csv(folder / "articles.csv")
    customers_table(shop).write_csv(folder / "customers.csv")
    n_transactions = 0
    with (folder / "transactions_train.csv").open("wb") as file:
        tables = track(
            transactions_tables(shop), "weeks", shop.size.weeks, console=Console(stderr=True), transient=True
        )
        for week, table in enumerate(tables):
            frame = pl.DataFrame(table)
            frame.write_csv(file, include_header=week == 0)
            n_transactions += len(frame)
    return n_transactions


if __name__ == "__main__":
    run_app(app)
