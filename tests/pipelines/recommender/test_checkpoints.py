"""Checkpoints: what a killed run finds again, that it ends with the same bits, and what is not trusted."""

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
import structlog
import torch

from pipelines.lake import Lake, open_lake
from pipelines.logs import configure_logging
from pipelines.recommender.checkpoints import Checkpoints
from pipelines.recommender.training import Trainer, set_up_torch
from tests.pipelines.recommender.small_shop import KNOBS, random_shop

CUTOFF = 63
DIES = """
import os, signal, sys
from tests.pipelines.recommender.test_checkpoints import train
writes = 0
def hook(event, arguments):
    global writes
    if event == "os.rename" and "checkpoints" in str(arguments[1]):
        writes += 1
        if writes == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
train(sys.argv[1])
"""


def train(uri: str) -> str:
    """Evaluate at two cutoffs and fit what ships; returns a hash of all weights and hits."""
    set_up_torch()
    shop = random_shop()
    checkpoints = Checkpoints(open_lake(uri), "work") if uri else None
    trainer = Trainer(shop.interactions, shop.catalogue, shop.segments, 7, KNOBS, checkpoints=checkpoints)
    evaluated = [trainer.evaluate_at(day) for day in (CUTOFF, CUTOFF - 7)]
    _, shipped = trainer.refit(70, evaluated[0].fit.best_epoch)
    digest = hashlib.sha256()
    for one in evaluated:
        digest.update(one.model.hits_NK.tobytes() + one.model.novelty_N.tobytes() + one.week.idle_days_N.tobytes())
        digest.update(b"".join(outcome.hits_NK.tobytes() for outcome in one.baselines.values()))
    for fit in [shipped, *(one.fit for one in evaluated)]:
        digest.update(repr(fit.curve).encode())
        digest.update(b"".join(tensor.numpy().tobytes() for tensor in fit.ranker.state_dict().values()))
    return digest.hexdigest()


def events(logs: Sequence[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    return [entry for entry in logs if entry["event"] == event]


def test_killed_twice_a_run_goes_on_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    configure_logging("info")
    expected = train("")
    for write in (2, 10):  # after the first epoch of all; within the fit of the second cutoff
        environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
        died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), str(write)], env=environment, check=False)
        assert died.returncode == -SIGKILL
    with structlog.testing.capture_logs() as resumed:
        assert train(str(tmp_path)) == expected
    found = [entry["name"] for entry in events(resumed, "checkpoint_found")]
    assert found == [f"evaluated-at-{CUTOFF}", f"stopping-before-{CUTOFF - 7}"]
    with structlog.testing.capture_logs() as again:
        assert train(str(tmp_path)) == expected
    *evaluated, shipped = (entry["name"] for entry in events(again, "checkpoint_found"))
    assert evaluated == [f"evaluated-at-{CUTOFF}", f"evaluated-at-{CUTOFF - 7}"]
    assert shipped.startswith("shipped-from-70-")
    assert not events(again, "label_week_described")  # nothing is done twice


def test_a_sequence_encoder_is_found_again_to_the_bit(folder_lake: Lake) -> None:
    shop = random_shop()
    knobs = KNOBS.model_copy(update={"sequence_epochs": 1})
    models = []
    configure_logging("info")
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            checkpoints = Checkpoints(folder_lake, "a")
            trainer = Trainer(shop.interactions, shop.catalogue, shop.segments, 7, knobs, checkpoints=checkpoints)
            models.append(trainer.tables(CUTOFF).sequence)
    assert len(events(logs, "sequence_encoder_fitted")) == len(events(logs, "checkpoint_found")) == 1
    first, second = (model.state_dict() for model in models if model is not None)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not second["vectors_A1D"].isnan().any()


def test_a_state_is_found_until_the_work_is_cleared(lake: Lake) -> None:
    checkpoints = Checkpoints(lake, "a")
    state = {"weights": {"w": torch.arange(3)}, "curve": [(1, 0.5)], "best": (0.5, 1, {})}
    assert checkpoints.load("fit") is None
    checkpoints.save("fit", {"old": 1})
    checkpoints.save("fit", state)
    found = Checkpoints(lake, "a").load("fit")
    assert found is not None
    assert found["weights"]["w"].tolist() == [0, 1, 2]
    assert (found["curve"], found["best"]) == (state["curve"], state["best"])
    assert Checkpoints(lake, "b").load("fit") is None  # other work
    Checkpoints(lake, "b").save("fit", {"x": 1})
    checkpoints.clear()
    assert checkpoints.load("fit") is None
    assert Checkpoints(lake, "b").load("fit") == {"x": 1}


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("evil-was-here",))


@pytest.mark.parametrize(
    "content", [b"", b"half of a", pickle.dumps(Evil()), pickle.dumps({"a": 1}, protocol=4)], ids=repr
)
def test_what_cannot_be_read_is_ignored_with_a_warning_and_runs_no_code(
    folder_lake: Lake, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder_lake.write_bytes("checkpoints/a/fit.pt", content)
    with structlog.testing.capture_logs() as logs:
        assert Checkpoints(folder_lake, "a").load("fit") is None
    assert [(entry["event"], entry["key"]) for entry in logs] == [("checkpoint_ignored", "checkpoints/a/fit.pt")]
    assert not (tmp_path / "evil-was-here").exists()


def test_a_truncated_state_is_ignored(folder_lake: Lake) -> None:
    checkpoints = Checkpoints(folder_lake, "a")
    checkpoints.save("fit", {"weights": torch.zeros(1000)})
    whole = folder_lake.read_bytes("checkpoints/a/fit.pt")
    folder_lake.write_bytes("checkpoints/a/fit.pt", whole[: len(whole) // 2])
    assert checkpoints.load("fit") is None


def test_without_a_lake_nothing_is_kept() -> None:
    checkpoints = Checkpoints()
    checkpoints.save("fit", {"x": 1})
    checkpoints.clear()
    assert checkpoints.load("fit") is None


def test_a_checkpoint_with_one_flipped_bit_is_not_trusted(folder_lake: Lake) -> None:
    checkpoints = Checkpoints(folder_lake, "work")
    checkpoints.save("fit", {"weights": torch.ones(1000)})
    (key,) = folder_lake.list("checkpoints/")
    content = bytearray(folder_lake.read_bytes(key))
    content[content.index(torch.ones(1000).numpy().tobytes()) + 2003] ^= 0x40
    folder_lake.write_bytes(key, bytes(content))
    assert checkpoints.load("fit") is None


def test_a_sound_checkpoint_in_the_place_of_another_is_not_trusted(folder_lake: Lake) -> None:
    checkpoints = Checkpoints(folder_lake, "a")
    checkpoints.save("stopping-before-56", {"epoch": 4})
    folder_lake.write_bytes(
        "checkpoints/a/stopping-before-63.pt", folder_lake.read_bytes("checkpoints/a/stopping-before-56.pt")
    )
    with structlog.testing.capture_logs() as logs:
        assert checkpoints.load("stopping-before-63") is None
    assert [entry["reason"] for entry in logs] == ["it was written as another one"]
    assert checkpoints.load("stopping-before-56") == {"epoch": 4}
