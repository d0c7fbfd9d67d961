"""Bring a model up beside the one that answers, and clear away what the one before it leaves."""

from pathlib import Path

from inference.bundle import MODEL_NAME, load_bundle
from inference.engine import Engine, Request
from inference.errors import MemoryShort
from inference.limits import Memory, give_back_memory
from inference.pages import drop_folder, drop_pages

# onnxruntime holds the file and what it unpacks from it; the rest is for the first batches.
GRAPH_COPIES, ENGINE_BYTES = 2, 16 << 20


def require_memory(folder: Path, memory: Memory | None) -> None:
    """Raise MemoryShort when a bundle does not fit beside what is there; None is without limit."""
    if memory is None:
        return
    needed = (folder / MODEL_NAME).stat().st_size * GRAPH_COPIES + ENGINE_BYTES
    if needed > memory.free_bytes:
        raise MemoryShort(
            f"needs about {needed >> 20} MiB beside the model that answers, {memory.free_bytes >> 20} of "
            f"{memory.limit_bytes >> 20} are free",
            where=str(folder),
            mend="raise the memory limit, or restart the server, which then loads this model alone",
        )


def load_engine(folder: Path) -> Engine:
    """Load a verified bundle, replay its golden requests and warm it; BundleError when it does not do what it says."""
    engine = Engine(load_bundle(folder))
    engine.certify()
    engine.recommend_batch([Request(top_k=12)] * 8)  # the first run of a batch allocates
    engine.forget_served()
    drop_pages(engine.bundle.model_path)  # onnxruntime has copied what it needs
    give_back_memory()
    return engine


def clear_away(folder: Path) -> None:
    """Return to the system what a model that was let go leaves, in this process and of its files."""
    give_back_memory()
    drop_folder(folder)
