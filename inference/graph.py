"""Run a bundle's graph, and hold it against its contract before anybody is answered from it.

Legend: B requests in the batch, L history length, K articles asked of the graph, N live articles, P positions of the
extra pool, G signal groups.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from inference.allowed import NOT_ALLOWED
from inference.bundle import Bundle
from inference.errors import BundleError, GraphRefused
from inference.lookup import NOBODY, Lookup

MEND = "train again, or serve another bundle"
NO_ANSWER = -1e8  # what may not be answered, and padding, has a lower score

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

ort.set_default_logger_severity(3)  # errors only: its warnings are not JSON


class Graph:
    """One onnxruntime session; GraphRefused when onnxruntime cannot load it."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        manifest = bundle.manifest
        self._bundle = bundle
        self._where = str(bundle.model_path)
        options = ort.SessionOptions()
        # More threads cost 40 to 140 % more CPU for a request this small, and ignore a container's quota.
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(self._where, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a class of its own for each status, all bare Exceptions
            raise GraphRefused(f"onnxruntime refuses it ({first_line(error)})", where=self._where, mend=MEND) from error
        self.max_k = min(manifest.n_live, manifest.max_top_k + manifest.max_history)
        self._no_extra_P = np.array([manifest.n_live], np.int64)
        self._no_penalty_N1 = np.append(np.zeros(manifest.n_live, np.float32), np.float32(NOT_ALLOWED))

    def run(
        self, lookups: Sequence[Lookup], k: int, penalty_N1: Floats | None = None, extra_P: Indices | None = None
    ) -> tuple[Indices, Floats]:
        """Rank for each lookup: article_index [B, K] and score [B, K], best first."""
        indices_BK, scores_BK = self._session.run(
            ["article_index_BK", "score_BK"], self._feed(lookups, k, penalty_N1, extra_P)
        )
        return indices_BK, scores_BK

    def run_explained(
        self, lookups: Sequence[Lookup], k: int, penalty_N1: Floats | None = None, extra_P: Indices | None = None
    ) -> tuple[Indices, Floats, Floats]:
        """Rank as `run` does, and say what each signal group added to each score, [B, K, G]."""
        indices_BK, scores_BK, contributions_BKG = self._session.run(
            ["article_index_BK", "score_BK", "contribution_BKG"], self._feed(lookups, k, penalty_N1, extra_P)
        )
        return indices_BK, scores_BK, contributions_BKG

    def _feed(
        self, lookups: Sequence[Lookup], k: int, penalty_N1: Floats | None, extra_P: Indices | None
    ) -> dict[str, npt.NDArray[np.int64] | Floats]:
        n_rows, length = len(lookups), max(1, *(len(lookup.articles) for lookup in lookups))
        history_BL = np.full((n_rows, length), self._bundle.manifest.n_articles, np.int64)
        age_days_BL = np.zeros((n_rows, length), np.float32)
        for row, lookup in enumerate(lookups):
            n_bought = len(lookup.articles)
            if n_bought:
                history_BL[row, -n_bought:] = lookup.articles
                age_days_BL[row, -n_bought:] = lookup.ages
        return {
            "history_BL": history_BL,
            "age_days_BL": age_days_BL,
            "segment_B": np.array([lookup.segment for lookup in lookups], np.int64),
            "extra_pool_P": self._no_extra_P if extra_P is None else extra_P,
            "penalty_N1": self._no_penalty_N1 if penalty_N1 is None else penalty_N1,
            "top_k_1": np.array([k], np.int64),
        }

    def rank_popular(self) -> list[int]:
        """Ask what is recommended to nobody in particular, and hold the answer against the contract."""
        where, max_k = self._where, self.max_k
        try:
            indices_BK, scores_BK = self.run([NOBODY, NOBODY], max_k)
        except BundleError:
            raise
        except Exception as error:
            what = f"it fails for an empty history and top_k {max_k} ({first_line(error)})"
            raise GraphRefused(what, where=where, mend=MEND) from error
        expected = (2, max_k)
        if indices_BK.shape != expected or scores_BK.shape != expected:
            what = f"it answers shapes {indices_BK.shape} and {scores_BK.shape}, expected {expected}"
            mend = "export a graph that answers every top_k up to min(n_live, max_top_k + max_history)"
            raise GraphRefused(what, where=where, mend=mend)
        indices_K, scores_K = indices_BK[0], scores_BK[0]
        if not np.isfinite(scores_BK).all():
            raise GraphRefused("it answers scores that are not finite", where=where, mend=MEND)
        n_articles = self._bundle.manifest.n_articles
        if indices_BK.min() < 0 or indices_BK.max() >= n_articles:
            raise GraphRefused(f"it answers articles outside 0..{n_articles - 1}", where=where, mend=MEND)
        if len(set(indices_K.tolist())) != max_k:
            raise GraphRefused("it answers the same article twice", where=where, mend=MEND)
        if not self._bundle.is_live[indices_K].all():
            raise GraphRefused("it answers articles that are not live", where=where, mend=MEND)
        if (np.diff(scores_K) > 0).any():
            raise GraphRefused("its scores do not fall from first to last", where=where, mend=MEND)
        popular: list[int] = indices_K.tolist()
        return popular


def first_line(error: Exception) -> str:
    """Give the line of an error that says most."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
