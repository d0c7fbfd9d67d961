"""The columns of a shop's three tables, in the source and in the lake's raw folder."""

from typing import Final

import polars as pl
import pyarrow as pa

SCHEMA_VERSION: Final = 1

TRANSACTION_COLUMNS: Final = ("t_dat", "customer_id", "article_id", "price", "sales_channel_id")

ID_DICTIONARY: Final = pa.dictionary(pa.int32(), pa.string())
# Ids repeat: dictionaries carry them from the parser to the file without a copy for each row.
TRANSACTION_SCHEMA: Final = pa.schema(
    [
        ("t_dat", pa.date32()),
        ("customer_id", ID_DICTIONARY),
        ("article_id", ID_DICTIONARY),
        ("price", pa.float64()),
        ("sales_channel_id", pa.int8()),
    ]
)

ARTICLE_COLUMNS: Final[dict[str, pl.DataType]] = {
    "article_id": pl.String(),
    "product_code": pl.String(),
    "prod_name": pl.String(),
    "product_type_no": pl.Int32(),
    "product_type_name": pl.String(),
    "product_group_name": pl.String(),
    "graphical_appearance_no": pl.Int32(),
    "graphical_appearance_name": pl.String(),
    "colour_group_code": pl.Int32(),
    "colour_group_name": pl.String(),
    "perceived_colour_value_id": pl.Int32(),
    "perceived_colour_value_name": pl.String(),
    "perceived_colour_master_id": pl.Int32(),
    "perceived_colour_master_name": pl.String(),
    "department_no": pl.Int32(),
    "department_name": pl.String(),
    "index_code": pl.String(),
    "index_name": pl.String(),
    "index_group_no": pl.Int32(),
    "index_group_name": pl.String(),
    "section_no": pl.Int32(),
    "section_name": pl.String(),
    "garment_group_no": pl.Int32(),
    "garment_group_name": pl.String(),
    "detail_desc": pl.String(),
}
CUSTOMER_COLUMNS: Final[dict[str, pl.DataType]] = {
    "customer_id": pl.String(),
    "FN": pl.Float32(),
    "Active": pl.Float32(),
    "club_member_status": pl.String(),
    "fashion_news_frequency": pl.String(),
    "age": pl.Float32(),
    "postal_code": pl.String(),
}

REJECT_COLUMNS: Final[dict[str, pl.DataType]] = {
    "file": pl.String(),
    "line": pl.Int64(),
    "column": pl.String(),
    "value": pl.String(),
    "rule": pl.String(),
    "reason": pl.String(),
}
"""What quarantine says about a row, before the row's own columns."""

# The columns without which a table cannot be read.
REQUIRED_COLUMNS: Final = {
    "transactions": TRANSACTION_COLUMNS,
    "articles": ("article_id",),
    "customers": ("customer_id",),
}
