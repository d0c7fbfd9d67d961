"""Fit the sequence encoder: at each position the article bought next, against every other or a weighted sample.

Legend: B windows in the batch, L positions, N targets, S articles compared, D width, A articles.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pipelines.errors import DataGateError
from pipelines.recommender.interactions import Int32, Int64
from pipelines.recommender.sequence import ArticleVectors, Dropout, EncoderShape, SequenceEncoder, SequenceModel
from pipelines.recommender.sequence_batches import Windows, cut_windows
from pipelines.recommender.sequence_loss import SoftmaxLoss, compared_articles


@dataclass(frozen=True, slots=True)
class SequenceSettings:
    """How the encoder is fitted; the defaults are for a shop, benchmarks.sequences names its own."""

    shape: EncoderShape = field(default_factory=EncoderShape)
    seed: int = 7
    n_epochs: int = 30
    max_steps: int = 6_000
    """Large data gets fewer epochs, or a random part of one: fitting ends at n_epochs or after this many batches."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    positions_per_batch: int | None = None
    """None: a 256th of an epoch, from 256 to 2048, so that small data gets enough steps too."""
    max_articles_compared: int = 4_096
    """Above this many articles each batch compares with a sample, weighted to stand for all."""
    max_customers: int = 1_000_000
    averaging: float = 0.998
    """Share of the old weights that the shipped average keeps at each step."""
    uses_bfloat16: bool = True
    """Scores in bfloat16: twice to ten times as fast where the processor has it, slower where not."""
    threads: int = 1
    """torch's threads; on batches this small more are hardly faster, and far slower on a busy machine."""


@dataclass(frozen=True, slots=True)
class SequenceEpoch:
    """One line of the training curve."""

    epoch: int
    n_epochs: int
    training_loss: float


def fit_sequence_encoder(
    articles: Int32,
    offsets: Int64,
    days: Int32 | None,
    n_articles: int,
    attributes_AV: Int32 | None = None,
    settings: SequenceSettings | None = None,
    on_epoch: Callable[[SequenceEpoch, Callable[[], SequenceModel]], None] | None = None,
) -> SequenceModel:
    """Fit on customers' purchases, oldest first: customer c bought articles[offsets[c]:offsets[c + 1]].

    days: day of each purchase, or None where only the order is known: the encoder then ignores ages. attributes_AV:
    value of each attribute of each article, 0 = missing. on_epoch gets the curve and a function that freezes the
    model as it stands. Same arguments and thread count, same weights. Raises DataGateError when no customer
    has two purchases or when the loss is not finite.
    """
    settings = settings or SequenceSettings()
    rng = np.random.default_rng(settings.seed)
    shape = settings.shape
    windows = cut_windows(articles, offsets, days, n_articles, shape.max_history, settings.max_customers, rng)
    if not len(windows.starts_W):
        raise DataGateError(
            "no customer has two purchases, so there is no order to learn; leave the sequence model out"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            fitter = _Fitter(windows, attributes_AV, settings, rng, uses_time=days is not None)
            for epoch in range(1, fitter.n_epochs + 1):
                loss = fitter.run_epoch()
                if on_epoch is not None:
                    on_epoch(SequenceEpoch(epoch, fitter.n_epochs, loss), fitter.freeze)
            return fitter.freeze()
    finally:
        torch.set_num_threads(threads)


class _Fitter:
    """Weights, their running average, and the schedule."""

    def __init__(
        self,
        windows: Windows,
        attributes_AV: Int32 | None,
        settings: SequenceSettings,
        rng: np.random.Generator,
        uses_time: bool,
    ) -> None:
        self.windows, self.settings, self.rng = windows, settings, rng
        s = settings.shape
        self.shape = EncoderShape(
            s.width, s.n_heads, s.n_layers, s.max_history, s.dropout, uses_time=s.uses_time and uses_time
        )
        self.net = torch.nn.ModuleDict(
            {
                "encoder": SequenceEncoder(self.shape, windows.n_articles),
                "articles": ArticleVectors(windows.n_articles, s.width, attributes_AV),
            }
        )
        dropout_rng = np.random.Generator(np.random.SFC64(settings.seed))
        for module in self.net.modules():
            if isinstance(module, Dropout):
                module.rng = dropout_rng
        self.average = [parameter.detach().clone() for parameter in self.net.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.positions_per_batch = settings.positions_per_batch or min(max(windows.n_targets // 256, 256), 2048)
        steps_per_epoch = max(1, math.ceil(windows.n_targets / self.positions_per_batch))
        self.n_epochs = max(1, min(settings.n_epochs, settings.max_steps // steps_per_epoch))
        self.n_steps = min(self.n_epochs * steps_per_epoch, settings.max_steps)
        self.step = 0
        counts = np.bincount(windows.articles, minlength=windows.n_articles)
        self.count_A = torch.from_numpy(counts.astype(np.float64))
        self.dtype = torch.bfloat16 if settings.uses_bfloat16 else torch.float32

    def run_epoch(self) -> float:
        """Go through every window once; returns the mean loss per position."""
        self.net.train()
        total, n_positions = 0.0, 0
        for rows_B in self.windows.epoch(self.positions_per_batch, self.rng):
            if self.step >= self.settings.max_steps:
                break
            loss, n = self._step(rows_B)
            if not math.isfinite(loss):
                raise DataGateError(
                    f"the sequence encoder's loss is {loss} at step {self.step} of {self.n_steps}; lower its "
                    f"learning rate ({self.settings.learning_rate:g}) or look for impossible days in the data"
                )
            total, n_positions = total + loss * n, n_positions + n
        return total / max(1, n_positions)

    def _step(self, rows_B: Int64) -> tuple[float, int]:
        batch = self.windows.batch(rows_B)
        encoder, articles = self.net["encoder"], self.net["articles"]
        vectors_AD = articles()
        vectors_A1D = torch.cat([vectors_AD, torch.zeros(1, self.shape.width)])
        history_BL = torch.from_numpy(batch.history_BL)
        state_BLD = encoder(vectors_A1D, history_BL, torch.from_numpy(batch.age_days_BL), every_position=True)
        target_BL = torch.from_numpy(batch.target_BL)
        is_target_BL = target_BL < self.windows.n_articles
        compared_S, log_weight_S, target_N = compared_articles(
            target_BL[is_target_BL], self.count_A, self.settings.max_articles_compared, self.rng
        )
        vectors_SD = vectors_AD if log_weight_S is None else vectors_AD[compared_S]
        loss: Tensor = SoftmaxLoss.apply(  # type: ignore[no-untyped-call]
            state_BLD[is_target_BL], vectors_SD, target_N, log_weight_S, self.dtype
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        progress = self.step / max(1, self.n_steps)
        warmup = min(1.0, (self.step + 1) / (0.05 * self.n_steps + 1))
        cooling = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * warmup * cooling
        self.optimizer.step()
        self.step += 1
        keep = min(self.settings.averaging, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.net.parameters()), 1.0 - keep)
        return loss.item(), len(target_N)

    def freeze(self) -> SequenceModel:
        """Copy the averaged weights into a model of their own."""
        net = copy.deepcopy(self.net)
        with torch.no_grad():
            for parameter, average in zip(net.parameters(), self.average, strict=True):
                parameter.copy_(average)
            vectors_AD = net["articles"]()
        for module in net.modules():
            if isinstance(module, Dropout):
                module.rng = None
        encoder = net["encoder"]
        assert isinstance(encoder, SequenceEncoder)
        return SequenceModel(encoder.eval(), vectors_AD)
