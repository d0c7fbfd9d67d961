"""Several training processes that do one piece of work, as torchrun starts them; alone, all of this is nothing.

Each describes its share of the customers and learns from it; gradients are added up, so that every process holds the
same weights. One of them, the writer, touches the lake.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.errors import TryAgainError

if TYPE_CHECKING:  # torch is imported where several processes talk: a step that is reused answers at once
    from torch import Tensor, nn

T = TypeVar("T")
PATIENCE = timedelta(hours=2)
"""How long the others wait for the writer, which exports, measures and reports alone."""


@dataclass(frozen=True)
class Workers:
    """This process and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def is_writer(self) -> bool:
        return self.rank == 0

    def share(self, n: int, batch: int) -> slice:
        """Give this process's run of n customers; whole batches, so that each is described as by one process alone."""
        n_batches = -(-n // batch)
        first, end = (n_batches * rank // self.size * batch for rank in (self.rank, self.rank + 1))
        return slice(first, min(end, n))

    def gather(self, value: T) -> list[T]:
        """Give every process's value, in the order of their ranks, to all."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def told(self, value: T) -> T:
        """Give the writer's value to all."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def sum(self, *values: float) -> list[float]:
        """Add up numbers over all processes."""
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def sum_tensor(self, values: Tensor) -> Tensor:
        """Add up a tensor over all processes; every one gets the same bits."""
        if self.size == 1:
            return values
        import torch.distributed as dist

        total = values.cpu()  # gloo adds up in main memory
        dist.all_reduce(total)
        return total.to(values.device)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes in place, in one message."""
        if self.size == 1:
            return
        import torch

        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        total = self.sum_tensor(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(total, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


@contextmanager
def joined() -> Iterator[Workers]:
    """Join the processes that torchrun started with this one, found by the variables that it sets."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Workers()
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Workers(dist.get_rank(), size)
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        raise TryAgainError(
            f"another of the {size} processes ended or did not answer ({str(error).splitlines()[0]}); the same command "
            "again goes on from the last checkpoint"
        ) from error
    finally:
        dist.destroy_process_group()
