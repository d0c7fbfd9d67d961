"""Fit the ranker on past label weeks, stopping early on the weeks just before the cutoff."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipelines.errors import DataGateError, UsageError
from pipelines.recommender.checkpoints import Checkpoints
from pipelines.recommender.hyperparameters import Hyperparameters
from pipelines.recommender.interactions import Bool, Int32
from pipelines.recommender.label_week import LabelWeek
from pipelines.recommender.metrics import average_precision
from pipelines.recommender.model import Ranker
from pipelines.recommender.rows import Rows
from pipelines.recommender.signals import RANKER_FEATURES
from pipelines.recommender.workers import Workers

SAMPLE = 2000
"""Customers from whose candidates mean and deviation of each feature are taken."""


@dataclass(frozen=True)
class Epoch:
    """One line of the training curve."""

    epoch: int
    training_loss: float
    validation_loss: float
    validation_map_at_12: float


@dataclass(frozen=True)
class Fit:
    ranker: Ranker
    curve: list[Epoch]
    best_epoch: int
    n_training_customers: int
    n_validation_customers: int


@dataclass
class Progress:
    """Where a fit stands between two epochs; all that going on needs, since each epoch draws from its own seed."""

    ranker: Ranker
    averaged: AveragedModel
    """Weights averaged over half an epoch of steps: the last step's are ±4 % of map_at_12 by luck of the batch."""
    optimizer: torch.optim.Optimizer
    curve: list[Epoch] = field(default_factory=list)
    best_loss: float = math.inf
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def shipped(self) -> Ranker:
        """The ranker with the averaged weights: the one that is validated and kept."""
        return cast(Ranker, self.averaged.module)

    def state(self) -> dict[str, Any]:
        return {
            "ranker": self.ranker.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curve": [astuple(epoch) for epoch in self.curve],
            "best": (self.best_loss, self.best_epoch, self.best_weights),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.ranker.load_state_dict(state["ranker"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve = [Epoch(*values) for values in state["curve"]]
        self.best_loss, self.best_epoch, self.best_weights = state["best"]


def split_validation(
    weeks: Sequence[LabelWeek], hyperparameters: Hyperparameters, workers: Workers | None = None
) -> tuple[list[LabelWeek], list[LabelWeek]]:
    """Split label weeks (newest first) into training and validation weeks.

    Validation is the newest week; a small shop's week is mostly noise, so more are added until they hold
    `validation_customers` buyers or a quarter of all weeks.
    """
    workers = workers or Workers()
    n_validation, n_customers = 0, 0.0
    for week in weeks[: max(1, len(weeks) // 4)]:
        n_validation += 1
        n_customers += workers.sum(len(week.customers_N))[0]
        if n_customers >= hyperparameters.validation_customers:
            break
    return list(weeks[n_validation:]), list(weeks[:n_validation])


def listwise_losses(scores_BC: Tensor, is_bought_BC: Tensor) -> Tensor:
    """Cross-entropy of the softmax over a customer's candidates against the bought ones (Cao et al. 2007, ListNet).

    One of each customer, whatever the size of the basket; [B].
    """
    log_share_BC = scores_BC.log_softmax(dim=1)
    target_BC = is_bought_BC.to(scores_BC.dtype)
    return -((log_share_BC * target_BC).sum(dim=1) / target_BC.sum(dim=1))


def ranked_hits(ranker: Ranker, week: LabelWeek, k: int = 100) -> tuple[Bool, Int32]:
    """Rank a week's candidates: hits of every customer [N, k] and articles of the described ones [R, k], best first."""
    hits_NK = np.zeros((len(week.customers_N), k), dtype=np.bool_)
    width = min(k, week.candidates_RC.shape[1])
    order_RK = np.zeros((len(week.described_R), width), dtype=np.int64)
    device = next(ranker.parameters()).device
    ranker.eval()
    with torch.inference_mode():
        for start in range(0, len(week.described_R), 256):
            features_BCF = torch.from_numpy(week.features_RCF[start : start + 256]).to(device, torch.float32)
            order_RK[start : start + 256] = ranker(features_BCF).topk(width, dim=1).indices.cpu().numpy()
    hits_NK[week.described_R, :width] = np.take_along_axis(week.is_bought_RC, order_RK, 1)
    return hits_NK, np.take_along_axis(week.candidates_RC, order_RK, 1)


def device_of(name: str, rank: int = 0) -> torch.device:
    """Choose where to fit: `auto` takes a GPU when there is one. Raises UsageError for `cuda` without one."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError('hyperparameters: device = "cuda", and torch sees no GPU here; use "auto" or "cpu"')
    return torch.device("cuda", rank % torch.cuda.device_count())


def fit_ranker(
    training: Sequence[LabelWeek],
    validation: Sequence[LabelWeek],
    hyperparameters: Hyperparameters,
    n_epochs: int | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    *,
    workers: Workers | None = None,
    checkpoints: Checkpoints | None = None,
    name: str = "fit",
) -> Fit:
    """Fit a ranker; without n_epochs it stops early on the validation weeks and keeps the best epoch's weights.

    With several workers, the weeks hold this one's share of the customers. After each epoch the progress is kept under
    `name`. Raises DataGateError when no training row has a bought candidate, or when the loss stops being a number.
    """
    workers, checkpoints = workers or Workers(), checkpoints or Checkpoints()
    device = device_of(hyperparameters.device, workers.rank)
    rows, held = Rows(training, device), Rows(validation, device)
    n_rows, n_held = (int(n) for n in workers.sum(len(rows), len(held)))
    if not n_rows:
        raise DataGateError(
            "nothing to learn from: no customer of the training weeks bought an article that retrieval found; "
            "the history before cutoff_date is too short or too sparse (give at least three weeks with sales)"
        )
    ranker = _new_ranker(rows, hyperparameters, workers, device)
    n_steps = max(1, round(n_rows / hyperparameters.batch_size))
    averaged = AveragedModel(ranker, multi_avg_fn=get_ema_multi_avg_fn(max(0.0, 1.0 - 2.0 / n_steps)))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.Adam(ranker.parameters(), lr=hyperparameters.learning_rate)
    progress = Progress(ranker, averaged, optimizer)
    if state := workers.told(checkpoints.load(name) if workers.is_writer else None):
        progress.restore(state)
        for known in progress.curve:
            on_epoch(known)
    for epoch in range(len(progress.curve) + 1, (n_epochs or hyperparameters.max_epochs) + 1):
        if n_epochs is None and n_held and epoch - 1 - progress.best_epoch >= hyperparameters.patience:
            break
        training_loss = _train_epoch(progress, rows, hyperparameters, workers, epoch) / n_rows
        validation_loss, validation_map = _validate(progress.shipped, held, validation, workers)
        if not _is_sound(progress.shipped) or (n_held and not math.isfinite(validation_loss)):
            raise DataGateError(
                f"after epoch {epoch} the validation loss is {validation_loss}: {_ran_away(hyperparameters)}"
            )
        progress.curve.append(Epoch(epoch, training_loss, validation_loss, validation_map))
        on_epoch(progress.curve[-1])
        if n_epochs is not None or not n_held or validation_loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = validation_loss, epoch
            progress.best_weights = copy.deepcopy(progress.shipped.state_dict())
        if workers.is_writer:
            checkpoints.save(name, progress.state())
    ranker.load_state_dict(progress.best_weights or ranker.state_dict())
    return Fit(ranker.cpu().eval(), progress.curve, max(progress.best_epoch, 1), n_rows, n_held)


def _new_ranker(rows: Rows, hyperparameters: Hyperparameters, workers: Workers, device: torch.device) -> Ranker:
    """Start from the same weights in every process, with features scaled by a sample of the training customers."""
    generator = torch.Generator().manual_seed(hyperparameters.seed)
    sample = torch.randperm(len(rows), generator=generator)[: -(-SAMPLE // workers.size)]
    total_F, squares_F, n = rows.moments(sample)
    sums = workers.sum_tensor(torch.cat([total_F, squares_F, total_F.new_tensor([n])]))
    mean_F, mean_square_F = sums[:-1].view(2, -1) / sums[-1]
    deviation_F = (mean_square_F - mean_F**2).clamp(min=0).sqrt()
    # A feature that never varies here must not explode when it does elsewhere.
    scale_F = torch.where(deviation_F > 1e-3, 1.0 / deviation_F.clamp(min=1e-3), torch.zeros_like(deviation_F))
    torch.manual_seed(hyperparameters.seed)
    ranker = Ranker(mean_F.cpu().float(), scale_F.cpu().float(), hyperparameters.hidden, hyperparameters.dropout)
    return ranker.to(device)


def _train_epoch(
    progress: Progress, rows: Rows, hyperparameters: Hyperparameters, workers: Workers, epoch: int
) -> float:
    """Go once through all customers in a new order; returns the sum of their losses, of all workers."""
    seed = int(np.random.SeedSequence([hyperparameters.seed, epoch, workers.rank]).generate_state(1)[0])
    torch.manual_seed(seed)  # of dropout, on every device
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    # Every worker takes as many steps, each a part of every batch in proportion to its customers.
    counts = workers.gather(len(rows))
    n_steps = max(1, round(sum(counts) / hyperparameters.batch_size))
    weights = list(progress.ranker.parameters())
    progress.ranker.train()
    total = 0.0
    for number, chosen in enumerate(torch.tensor_split(order, n_steps)):
        n_batch = sum(count // n_steps + (number < count % n_steps) for count in counts)
        batch = rows.take(chosen)
        losses_B = listwise_losses(batch.scores(progress.ranker), batch.is_bought_BC)
        penalty = torch.stack([(weight**2).sum() for weight in weights]).sum() * hyperparameters.weight_decay
        loss = losses_B.sum() / n_batch + penalty / workers.size
        if not torch.isfinite(loss):
            raise DataGateError(_no_number(rows, progress.ranker, chosen, loss.item(), epoch, number, hyperparameters))
        progress.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        workers.sum_gradients(weights)
        progress.optimizer.step()
        progress.averaged.update_parameters(progress.ranker)
        total += losses_B.sum().item()
    return workers.sum(total)[0]


def _validate(ranker: Ranker, held: Rows, validation: Sequence[LabelWeek], workers: Workers) -> tuple[float, float]:
    """Mean loss of the customers that have one, and map_at_12 of all; nan without any."""
    ranker.eval()
    loss, precision, n = 0.0, 0.0, 0
    with torch.inference_mode():
        for chosen in torch.split(torch.arange(len(held)), 256):
            batch = held.take(chosen)
            loss += listwise_losses(batch.scores(ranker), batch.is_bought_BC).sum().item()
    for week in validation:
        precision += float(average_precision(ranked_hits(ranker, week, 12)[0], week.n_bought_N).sum())
        n += len(week.customers_N)
    loss, n_losses, precision, n_customers = workers.sum(loss, len(held), precision, n)
    return loss / n_losses if n_losses else math.nan, precision / n_customers if n_customers else math.nan


def _no_number(
    rows: Rows, ranker: Ranker, chosen: Tensor, loss: float, epoch: int, number: int, hyperparameters: Hyperparameters
) -> str:
    """Say where a loss stopped being a number: in the data (which week and feature) or in the weights."""
    features_BCF = rows.take(chosen).features_BCF
    bad_BF = (~torch.isfinite(features_BCF)).any(dim=1)
    where = f"training loss became {loss} in epoch {epoch}, batch {number + 1}"
    if bad_BF.any():
        b, f = (int(at) for at in bad_BF.nonzero()[0])
        day = rows.days(chosen)[b]
        return (
            f"{where}: feature {RANKER_FEATURES[f]!r} of a customer in the label week from day {day} is no finite "
            "number; look for absurd prices or dates in the purchases before it"
        )
    extreme_F = ((features_BCF - ranker.mean_F) * ranker.scale_F).abs().amax(dim=(0, 1))
    f = int(extreme_F.argmax())
    days = sorted(set(rows.days(chosen)))
    return (
        f"{where} (label weeks from days {days}), while every feature is a number: {_ran_away(hyperparameters)}. The "
        f"farthest feature is {RANKER_FEATURES[f]!r}, {float(extreme_F[f]):.1f} deviations from its mean"
    )


def _ran_away(hyperparameters: Hyperparameters) -> str:
    return (
        f"the weights ran away; lower learning_rate (now {hyperparameters.learning_rate:g}) or weight_decay (now "
        f"{hyperparameters.weight_decay:g})"
    )


def _is_sound(ranker: Ranker) -> bool:
    return all(bool(torch.isfinite(weight).all()) for weight in ranker.parameters())
