"""Train RecTools' SASRec and print what it cost: run by benchmarks.sequence_training in an environment of its own.

Prints one JSON line: the clock's and the processor's seconds at the end of each epoch, and the peak memory.
"""

import json
import logging
import resource
import sys
import time
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet


class EpochClock(Callback):
    """Note the time at the end of each epoch; RecTools copies its trainer, so the class holds the list."""

    ends: ClassVar[list[tuple[float, float]]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: object) -> None:  # noqa: ARG002 - lightning's signature
        self.ends.append((time.perf_counter(), time.process_time()))


def main() -> None:
    path, epochs, width, blocks, heads, length, negatives, sequences, threads = sys.argv[1], *map(int, sys.argv[2:])
    torch.set_num_threads(threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # which devices it has not found
    with Path(path).open(encoding="utf-8") as file:
        rows = [line.split() for line in file]
    table = pd.DataFrame(
        [(row[0], item, position) for row in rows for position, item in enumerate(row[1:-2])],
        columns=[Columns.User, Columns.Item, "position"],
    )
    table[Columns.Datetime] = pd.Timestamp("2020-01-01") + pd.to_timedelta(table.pop("position"), unit="D")
    table[Columns.Weight] = 1.0

    def trainer() -> Trainer:
        return Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            min_epochs=epochs,
            callbacks=[EpochClock()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    model = SASRecModel(
        n_factors=width,
        n_blocks=blocks,
        n_heads=heads,
        session_max_len=length,
        loss="sampled_softmax",
        n_negatives=negatives,
        batch_size=sequences,
        epochs=epochs,
        dropout_rate=0.5,
        dataloader_num_workers=0,
        train_min_user_interactions=2,
        item_net_block_types=(IdEmbeddingsItemNet,),
        get_trainer_func=trainer,
    )
    model.fit(Dataset.construct(table))
    peak_rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"ends": EpochClock.ends, "peak_rss_bytes": peak_rss_bytes}))


if __name__ == "__main__":
    main()
