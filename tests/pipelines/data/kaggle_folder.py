"""A source of a few rows in Kaggle's format, to be broken in one place by each test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HEADER = "t_dat,customer_id,article_id,price,sales_channel_id"
ANNA, BEA, CLEO = ("a" * 64, "b" * 64, "c" * 64)
SHIRT, SKIRT, SOCKS = "0100000001", "0200000001", "0300000001"
ARTICLES = (
    "article_id,product_code,prod_name,product_type_no,detail_desc",
    f'{SHIRT},100000,Alma shirt,259,"Shirt in linen, with a collar."',
    f"{SKIRT},200000,Ebba skirt,275,Skirt.",
    f'{SOCKS},300000,Loke socks,302,"Two\nlines."',
)
CUSTOMERS = (
    "customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code",
    f"{ANNA},1.0,1.0,ACTIVE,Regularly,24.0,{'d' * 64}",
    f"{BEA},,,ACTIVE,NONE,51.0,{'e' * 64}",
)


def purchase(
    t_dat: str = "2020-01-06",
    customer_id: str = ANNA,
    article_id: str = SHIRT,
    price: str = "0.025",
    sales_channel_id: str = "2",
) -> str:
    return f"{t_dat},{customer_id},{article_id},{price},{sales_channel_id}"


@dataclass
class KaggleFolder:
    """Lines of the three files; write() puts them down."""

    purchases: Sequence[str] = field(default_factory=lambda: [purchase()] * 3)
    header: str = HEADER
    articles: Sequence[str] = ARTICLES
    customers: Sequence[str] = CUSTOMERS
    names: Mapping[str, str] = field(
        default_factory=lambda: {
            "transactions": "transactions.csv",
            "articles": "articles.csv",
            "customers": "customers.csv",
        }
    )

    @property
    def transactions_text(self) -> str:
        return "\n".join([self.header, *self.purchases]) + "\n"

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.names["transactions"]).write_text(self.transactions_text)
        (folder / self.names["articles"]).write_text("\n".join(self.articles) + "\n")
        (folder / self.names["customers"]).write_text("\n".join(self.customers) + "\n")
        return folder
