import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import names
from inference.names import ArticleNames


def write(folder: Path, articles: Sequence[Any]) -> ArticleNames:
    lines = [(json.dumps(article, ensure_ascii=False) + "\n").encode() for article in articles]
    (folder / "articles.jsonl").write_bytes(b"".join(lines))
    offsets = np.cumsum([0, *map(len, lines)], dtype=np.int64)
    return ArticleNames(folder / "articles.jsonl", offsets)


def article(n: int, name: str, colour: str = "Black") -> dict[str, str]:
    return {"article_id": f"{n:010d}", "name": name, "product_type": "Dress", "colour": colour}


SHOP = [
    article(1, "Siri wide dress"),
    article(2, "Sírí wide dress", "Dark Blue"),
    article(3, "İstanbul coat"),  # in lower case longer by a byte, as is what stands behind it
    article(4, "Runa skirt", "Red"),
    article(5, "Siri wide dress", "Red"),
]
ALL_LIVE = np.ones(5, np.bool_)


def found(shop: ArticleNames, query: str, limit: int = 9, is_live: Any = ALL_LIVE) -> list[str]:
    return [facts["article_id"][-1] for facts in shop.search(query, limit, is_live)]


def test_one_line_is_read_where_it_lies(tmp_path: Path) -> None:
    shop = write(tmp_path, SHOP)
    assert shop.at(2) == SHOP[2]
    assert shop.at(4)["colour"] == "Red"


@pytest.mark.parametrize("chunk_bytes", [1, 150, 1 << 18])
@pytest.mark.parametrize(
    ("query", "articles"),
    [
        ("siri", ["1", "5"]),
        ("SÍRÍ", ["2"]),
        ("wide red", ["5"]),
        ("red", ["4", "5"]),
        ("0000000004", ["4"]),
        ("runa", ["4"]),
        ("article_id", []),  # the names of fields are no texts
        ("blue skirt", []),
        ("  ", []),
        ('"', []),
    ],
)
def test_every_word_must_occur_in_the_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, articles: list[str], chunk_bytes: int
) -> None:
    monkeypatch.setattr(names, "CHUNK_BYTES", chunk_bytes)
    assert found(write(tmp_path, SHOP), query) == articles


def test_what_is_on_sale_comes_first_and_a_limit_holds(tmp_path: Path) -> None:
    shop = write(tmp_path, SHOP)
    is_live = np.array([False, True, True, True, True])
    assert found(shop, "dress", is_live=is_live) == ["2", "3", "4", "5", "1"]
    assert found(shop, "dress", 2, is_live) == ["2", "3"]
    assert [facts["is_live"] for facts in shop.search("siri", 9, is_live)] == [True, False]


def test_lines_that_are_no_objects_have_no_names(tmp_path: Path) -> None:
    shop = write(tmp_path, [[1], "x", article(1, "x")])
    assert (shop.at(0), shop.at(1)) == ({}, {})
    assert found(shop, "x", is_live=np.ones(3, np.bool_)) == ["1"]
