"""Random streams by name: each (seed, purpose, week) has its own, so no draw depends on how much was drawn before."""

import zlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int32]
Bytes: TypeAlias = NDArray[np.uint8]
Bools: TypeAlias = NDArray[np.bool_]


def stream(seed: int, purpose: str, week: int = 0) -> np.random.Generator:
    """Open the counter-based stream of one purpose in one week; the same arguments give the same numbers."""
    key = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), week + 1])
    return np.random.Generator(np.random.Philox(key))


def draw_from(rng: np.random.Generator, weights: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Draw n positions in proportion to weights."""
    bounds = np.cumsum(weights)
    drawn: NDArray[np.int64] = np.searchsorted(bounds, rng.random(n) * bounds[-1], side="right")
    return np.minimum(drawn, len(weights) - 1, dtype=np.int64)


def unit_vectors(vectors_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale each row to length 1."""
    lengths_N1: NDArray[np.float64] = np.sqrt((vectors_ND**2).sum(axis=1, keepdims=True))
    return np.divide(vectors_ND, lengths_N1, dtype=np.float64)
