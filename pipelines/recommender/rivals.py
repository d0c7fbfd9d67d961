"""Score an earlier champion, as it was evaluated, on today's label week: same customers, same purchases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from pipelines.errors import ArtefactError
from pipelines.recommender.evaluation import Outcome, outcome_of
from pipelines.recommender.histories import histories_of
from pipelines.recommender.interactions import Catalogue, Interactions
from pipelines.recommender.label_week import LabelWeek, is_among, purchase_keys
from pipelines.recommender.signals import NOT_ALLOWED

MODEL_NAME, ARTICLES_NAME = "model.onnx", "article_ids.npy"
BATCH = 16


def open_model(folder: Path) -> ort.InferenceSession:
    """Open the model as it was evaluated; raises ArtefactError for one that cannot run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        return ort.InferenceSession(str(folder / MODEL_NAME), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each status, all bare Exceptions
        raise ArtefactError(f"the model as it was evaluated cannot be opened ({str(error).splitlines()[0]})") from error


def known_share(folder: Path, article_ids: Sequence[str]) -> float:
    """Say how much of the catalogue of the model in `folder` is among these articles, from 0 to 1.

    Raises ArtefactError when it cannot be read.
    """
    try:
        own_ids = np.load(folder / ARTICLES_NAME, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ArtefactError(f"the articles of the model as it was evaluated cannot be read ({error})") from error
    return float(np.isin(own_ids, np.array(article_ids, dtype=own_ids.dtype)).mean())


def champion_outcome(
    folder: Path,
    interactions: Interactions,
    catalogue: Catalogue,
    segments: np.ndarray,
    week: LabelWeek,
    horizon_days: int,
    max_history: int,
) -> Outcome:
    """Answer the label week's customers with the model in `folder`, from their histories up to the week.

    Its catalogue may be older: articles are matched by their id, and those that it does not know are left out of the
    histories. It was fitted before its own cutoff, so it has not seen the label week unless that lies before it.
    """
    own_ids = np.load(folder / ARTICLES_NAME, allow_pickle=False)
    ids = np.array(catalogue.article_ids, dtype=own_ids.dtype)
    at = np.minimum(np.searchsorted(own_ids, ids), len(own_ids) - 1)
    to_own = np.append(np.where(own_ids[at] == ids, at, len(own_ids)), len(own_ids))
    back = np.minimum(np.searchsorted(ids, own_ids), len(ids) - 1)
    to_ours = np.where(ids[back] == own_ids, back, -1)
    session = open_model(folder)
    (n_places,) = next(value.shape for value in session.get_inputs() if value.name == "penalty_N1")
    unfiltered = {
        "extra_pool_P": np.array([n_places - 1], dtype=np.int64),
        "penalty_N1": np.append(np.zeros(n_places - 1, np.float32), np.float32(NOT_ALLOWED)),
    }
    past = interactions.before(week.day)
    bought_keys = purchase_keys(interactions.between(week.day, week.day + horizon_days))
    hits_NK = np.zeros((len(week.customers_N), 12), dtype=np.bool_)
    articles_NK = np.full(hits_NK.shape, -1, dtype=np.int32)
    for start in range(0, len(week.customers_N), BATCH):
        customers = week.customers_N[start : start + BATCH]
        history = histories_of(past, customers, week.day, max_history)
        feed = {
            "history_BL": to_own[history.history_BL].astype(np.int64),
            "age_days_BL": history.age_days_BL,
            "segment_B": segments[customers].astype(np.int64),
            "top_k_1": np.array([12], dtype=np.int64),
            **unfiltered,
        }
        index_BK, _ = session.run(["article_index_BK", "score_BK"], feed)
        # A shop with fewer than 12 articles is answered with all of them; what is gone since is -1.
        ours_BK = to_ours[index_BK]
        articles_NK[start : start + BATCH, : index_BK.shape[1]] = ours_BK
        hits_NK[start : start + BATCH, : index_BK.shape[1]] = is_among(
            ours_BK, customers, bought_keys, interactions.n_articles
        )
    return outcome_of(week, hits_NK, articles_NK, interactions)
