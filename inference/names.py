"""Names of articles, read from articles.jsonl where they lie: the file is never held in memory."""

import json
import os
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK_BYTES = 1 << 16  # small, so that a search leaves nothing behind in the process
MAX_LINES_TRIED = 4000
SEARCH_BUDGET_S = 0.25
MAX_LINE_BYTES = 1 << 16


class ArticleNames:
    """Look up and search the lines of articles.jsonl; `offsets` holds the byte offset of each line and the end."""

    def __init__(self, path: Path, offsets: npt.NDArray[np.int64]) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._offsets = offsets

    def at(self, article_index: int) -> dict[str, Any]:
        """Read one line: article_id, name, product_type, colour, index_group, and what else training wrote."""
        start, end = (int(offset) for offset in self._offsets[article_index : article_index + 2])
        return _read_line(os.pread(self._file, min(end - start, MAX_LINE_BYTES), start))

    def search(self, query: str, limit: int, is_live: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Find articles that have every word of the query in one of their texts; live ones first, then by article_id.

        Reads the file in pieces, stops once `limit` live articles were found, and in any case after a quarter of a
        second, so that no search costs a predict more than a moment.
        """
        words = query.lower().split()
        if not words:
            return []
        live: list[dict[str, Any]] = []
        gone: list[dict[str, Any]] = []
        deadline = time.monotonic() + SEARCH_BUDGET_S
        for n_tried, (index, line) in enumerate(
            self._lines_with(max(words, key=lambda word: (word.isascii(), len(word)))), 1
        ):
            facts = _read_line(line)
            text = " ".join(str(value) for value in facts.values()).lower()
            if all(word in text for word in words):
                (live if is_live[index] else gone).append(facts | {"is_live": bool(is_live[index])})
            if len(live) >= limit or n_tried >= MAX_LINES_TRIED or time.monotonic() > deadline:
                break
        return (live + gone)[:limit]

    def _lines_with(self, text: str) -> Iterable[tuple[int, bytes]]:
        """Yield (article_index, line) for every line in which the word stands, in lower case."""
        word, is_ascii = text.encode(), text.isascii()
        n_articles = len(self._offsets) - 1
        first = 0
        while first < n_articles:
            start = int(self._offsets[first])
            beyond = int(self._offsets.searchsorted(start + CHUNK_BYTES, side="right")) - 1
            beyond = min(max(beyond, first + 1), n_articles)
            chunk = os.pread(self._file, int(self._offsets[beyond]) - start, start)
            # Bytes are lower-cased ten times faster, and other letters than ASCII's cannot hide a word without them.
            lowered = chunk.lower() if is_ascii else chunk.decode("utf-8", "replace").lower().encode()
            # Lower-casing may move bytes; then lines are counted instead of looked up.
            is_same = len(lowered) == len(chunk)
            at = lowered.find(word)
            while at >= 0:
                if is_same:
                    index = int(self._offsets.searchsorted(start + at, side="right")) - 1
                else:
                    index = first + lowered.count(b"\n", 0, at)
                begin, end = int(self._offsets[index]) - start, int(self._offsets[index + 1]) - start
                yield index, chunk[begin:end]
                following = lowered.find(b"\n", at)
                at = lowered.find(word, following) if following >= 0 else -1
            first = beyond


def _read_line(line: bytes) -> dict[str, Any]:
    """Read one object; a line that is none has no names."""
    try:
        facts = json.loads(line)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
