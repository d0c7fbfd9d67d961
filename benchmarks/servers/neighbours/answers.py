"""Look up, run the graph, write the answer: what every neighbour does, with numpy and onnxruntime alone."""

import hashlib
import json
import os
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime as ort

EPOCH = date(1970, 1, 1)


class Answers:
    def __init__(self, folder: str | None = None) -> None:
        path = Path(folder or os.environ["BUNDLE"])
        manifest = json.loads((path / "manifest.json").read_text())
        self.version = manifest["version"]
        self.n_articles, self.n_live = manifest["n_articles"], manifest["n_live"]
        self.max_history = manifest["max_history"]
        self.today = (date.fromisoformat(manifest["trained_through"]) - EPOCH).days + 1

        def array(name: str) -> np.ndarray:
            return np.load(path / f"{name}.npy", mmap_mode="r").view(np.ndarray)

        self.article_ids, self.keys, self.offsets = (
            array("article_ids"),
            array("customer_keys"),
            array("customer_offsets"),
        )
        self.articles, self.days = array("history_articles"), array("history_days")
        self.segments = array("customer_segments")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(str(path / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.penalty = np.append(np.zeros(self.n_live, np.float32), np.float32(-1e9))
        self.nothing = np.array([self.n_live], np.int64)

    def look_up(self, document: dict) -> tuple[np.ndarray, np.ndarray, int]:
        articles, ages, segment = np.empty(0, np.int64), np.empty(0, np.float32), 0
        customer_id = document.get("customer_id")
        if customer_id is not None:
            digest = hashlib.blake2b(customer_id.encode(), digest_size=8).digest()
            key = np.uint64(int.from_bytes(digest, "big"))
            row = int(self.keys.searchsorted(key))
            if row < len(self.keys) and self.keys[row] == key:
                start, end = self.offsets[row : row + 2]
                articles = self.articles[start:end].astype(np.int64)
                ages = np.maximum(self.today - self.days[start:end], 1).astype(np.float32)
                segment = int(self.segments[row])
        sent = document.get("article_ids") or []
        if sent:
            wanted = np.array([text.encode() for text in sent], dtype="S10")
            at = np.minimum(self.article_ids.searchsorted(wanted), self.n_articles - 1)
            known = at[self.article_ids[at] == wanted]
            articles = np.concatenate([articles, known])
            ages = np.concatenate([ages, np.ones(len(known), np.float32)])
        return articles[-self.max_history :], ages[-self.max_history :], segment

    def __call__(self, documents: list[dict]) -> list[dict]:
        """Answer a batch in one run of the graph."""
        found = [self.look_up(document) for document in documents]
        length = max(1, *(len(articles) for articles, _, _ in found))
        history = np.full((len(found), length), self.n_articles, np.int64)
        ages_days = np.zeros((len(found), length), np.float32)
        for row, (articles, ages, _) in enumerate(found):
            if len(articles):
                history[row, -len(articles) :] = articles
                ages_days[row, -len(ages) :] = ages
        top_k = [document.get("top_k") or 12 for document in documents]
        indices, scores = self.session.run(
            ["article_index_BK", "score_BK"],
            {
                "history_BL": history,
                "age_days_BL": ages_days,
                "segment_B": np.array([segment for _, _, segment in found], np.int64),
                "extra_pool_P": self.nothing,
                "penalty_N1": self.penalty,
                "top_k_1": np.array([max(top_k)], np.int64),
            },
        )
        return [
            {
                "customer_id": document.get("customer_id"),
                "recommendations": self.article_ids[indices[row, :k]].astype("U10").tolist(),
                "scores": scores[row, :k].tolist(),
                "count": k,
                "source": "personal" if len(found[row][0]) else "segment" if found[row][2] else "popular",
                "model_version": self.version,
            }
            for row, (document, k) in enumerate(zip(documents, top_k, strict=True))
        ]
