"""The sequence encoder: what a customer bought, in order and with its time gaps, as one vector.

Legend: B customers in the batch, L history length, D width, H heads, A articles, V attributes per article.

A causal transformer. Positions count back from the newest purchase (a learned bias by distance), so every position of
a training sequence is an example of a customer whose history ends there, and padding on the left changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

MASKED = -1e9
TIME_SCALES_DAYS = (1.0, 4.0, 16.0, 64.0, 256.0)
"""Half-weight ages of the time features: from the next day to the next year."""


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """What the graph's size and cost follow from."""

    width: int = 64
    n_heads: int = 2
    n_layers: int = 2
    max_history: int = 50
    dropout: float = 0.4
    uses_time: bool = True

    def __post_init__(self) -> None:
        if self.width % self.n_heads:
            raise ValueError(f"width {self.width} is not a multiple of n_heads {self.n_heads}; change one of them")
        if self.max_history < 1 or self.n_layers < 1:
            raise ValueError(f"max_history {self.max_history} and n_layers {self.n_layers} must be at least 1")


class ArticleVectors(nn.Module):
    """One vector per article: its own and the sum of its attribute values', so that new articles have one too."""

    def __init__(self, n_articles: int, width: int, attributes_AV: npt.NDArray[np.int32] | None) -> None:
        super().__init__()
        self.n_articles = n_articles
        self.own = nn.Embedding(n_articles, width)
        nn.init.normal_(self.own.weight, std=1 / math.sqrt(width))
        self.values: nn.Embedding | None = None
        if attributes_AV is not None and attributes_AV.shape[1]:
            if attributes_AV.shape[0] != n_articles or attributes_AV.min(initial=0) < 0:
                raise ValueError(
                    f"attributes_AV has shape {attributes_AV.shape}, smallest value {attributes_AV.min(initial=0)}; "
                    f"one row for each of the {n_articles} articles and values from 0 (missing) are expected"
                )
            # Each column gets its own range of one shared table.
            starts_V = np.concatenate([[0], np.cumsum(attributes_AV.max(axis=0, initial=0)[:-1] + 1)])
            slots_AV = attributes_AV.astype(np.int64) + starts_V
            self.values = nn.Embedding(int(slots_AV.max(initial=0)) + 1, width)
            nn.init.normal_(self.values.weight, std=1 / math.sqrt(width * attributes_AV.shape[1]))
            self.register_buffer("slots_AV", torch.from_numpy(slots_AV), persistent=False)

    slots_AV: Tensor

    def forward(self) -> Tensor:
        """Add up each article's vectors; [A, D]."""
        vectors_AD = self.own.weight
        if self.values is not None:
            vectors_AD = vectors_AD + self.values(self.slots_AV).sum(dim=1)
        return vectors_AD


class Dropout(nn.Module):
    """Dropout from numpy's random bytes: torch's own sampler costs 9 times as much on a CPU and a sixth of an epoch.

    The share is rounded to 1/256. `rng` is set by whoever trains; without one, and in evaluation, nothing is dropped.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.n_dropped_of_256 = round(256 * share)
        self.rng: np.random.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Zero a random share and scale up the rest."""
        if not self.training or self.rng is None or not self.n_dropped_of_256:
            return x
        draws = np.frombuffer(self.rng.bytes(x.numel()), dtype=np.uint8) >= self.n_dropped_of_256
        kept = torch.from_numpy(draws).reshape(x.shape).to(x.dtype)
        return x * (kept * (256 / (256 - self.n_dropped_of_256)))


class Block(nn.Module):
    """Attention biased by distance and age, then a feed-forward network; both residual, normalised before."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        D = shape.width
        self.n_heads = shape.n_heads
        self.before_attention = nn.LayerNorm(D)
        self.query = nn.Linear(D, D)
        self.key_value = nn.Linear(D, 2 * D)
        self.out = nn.Linear(D, D)
        self.before_network = nn.LayerNorm(D)
        self.network = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(approximate="tanh"), nn.Linear(4 * D, D))
        self.dropout = Dropout(shape.dropout)
        # Heads start with different reach: some see the last few purchases, some all.
        slopes_H = torch.tensor([2.0 ** -(1 + 3 * head) for head in range(shape.n_heads)])
        self.distance_bias_HL = nn.Parameter(-slopes_H.unsqueeze(1) * torch.arange(shape.max_history))
        self.time_bias_HT = nn.Parameter(torch.zeros(shape.n_heads, len(TIME_SCALES_DAYS)))

    def forward(self, x_BLD: Tensor, distance_LL: Tensor, mask_BLL: Tensor, time_BLLT: Tensor | None) -> Tensor:
        """Update the last Q positions, Q = distance_LL.shape[0]; [B, Q, D]."""
        B, L, D = x_BLD.shape
        H, Q = self.n_heads, distance_LL.shape[0]
        normed_BLD = self.before_attention(x_BLD)
        x_BQD = x_BLD[:, L - Q :]
        query_BHQE = self.query(normed_BLD[:, L - Q :]).reshape(B, Q, H, D // H).transpose(1, 2)
        key_value_BLX = self.key_value(normed_BLD)
        key_BHEL = key_value_BLX[:, :, :D].reshape(B, L, H, D // H).permute(0, 2, 3, 1)
        value_BHLE = key_value_BLX[:, :, D:].reshape(B, L, H, D // H).transpose(1, 2)
        weight_BHQL = query_BHQE @ key_BHEL / math.sqrt(D // H) + self.distance_bias_HL[:, distance_LL]
        if time_BLLT is not None:
            weight_BHQL = weight_BHQL + (time_BLLT @ self.time_bias_HT.T).permute(0, 3, 1, 2)
        weight_BHQL = torch.softmax(weight_BHQL + mask_BLL.unsqueeze(1), dim=3)
        seen_BQD = (weight_BHQL @ value_BHLE).transpose(1, 2).reshape(B, Q, D)
        x_BQD = x_BQD + self.dropout(self.out(seen_BQD))
        updated_BQD: Tensor = x_BQD + self.dropout(self.network(self.before_network(x_BQD)))
        return updated_BQD


class SequenceEncoder(nn.Module):
    """From a history to the customer's vector, whose dot product with an article's vector is the article's score."""

    def __init__(self, shape: EncoderShape, n_articles: int) -> None:
        super().__init__()
        self.shape = shape
        self.n_articles = n_articles
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.gap = nn.Linear(len(TIME_SCALES_DAYS), shape.width, bias=False)
        nn.init.zeros_(self.gap.weight)
        self.before = nn.LayerNorm(shape.width)
        self.after = nn.LayerNorm(shape.width)
        self.dropout = Dropout(shape.dropout)
        self.register_buffer("rates_T", torch.tensor([-math.log(2) / days for days in TIME_SCALES_DAYS]))

    rates_T: Tensor

    def forward(
        self, vectors_A1D: Tensor, history_BL: Tensor, age_days_BL: Tensor, every_position: bool = False
    ) -> Tensor:
        """Encode each history, or with every_position each of its beginnings ([B, L, D] instead of [B, D]).

        vectors_A1D: the articles' vectors and one row for padding; history_BL: article_index, oldest first, n_articles
        pads on the left; age_days_BL: days from each purchase to the moment of the prediction (not read where the
        encoder was fitted without days). A history of padding alone gets a zero vector.
        """
        L = history_BL.shape[1]
        is_bought_BL = history_BL < self.n_articles
        position_L = torch.arange(L, device=history_BL.device)
        distance_LL = position_L.unsqueeze(1) - position_L.unsqueeze(0)
        is_hidden_BLL = (distance_LL < 0).unsqueeze(0) | ~is_bought_BL.unsqueeze(1)
        mask_BLL = is_hidden_BLL.to(torch.float32) * MASKED
        distance_LL = distance_LL.clamp(0, self.shape.max_history - 1)
        x_BLD: Tensor = vectors_A1D[history_BL] * math.sqrt(self.shape.width)
        time_BLLT: Tensor | None = None
        if self.shape.uses_time:
            # Position t looks back from the purchase that followed it, the last one from today.
            now_BL = torch.cat([age_days_BL[:, 1:], torch.zeros_like(age_days_BL[:, :1])], dim=1)
            age_BLL = (age_days_BL.unsqueeze(1) - now_BL.unsqueeze(2)).clamp(0.0, 1000.0)
            time_BLLT = torch.exp(age_BLL.unsqueeze(3) * self.rates_T)
            gap_BL = (age_days_BL - now_BL).clamp(0.0, 1000.0)
            x_BLD = x_BLD + self.gap(torch.exp(gap_BL.unsqueeze(2) * self.rates_T))
        x_BLD = self.dropout(self.before(x_BLD))
        for index, block in enumerate(self.blocks):
            if index == len(self.blocks) - 1 and not every_position:
                distance_LL, mask_BLL = distance_LL[-1:], mask_BLL[:, -1:]
                time_BLLT = None if time_BLLT is None else time_BLLT[:, -1:]
            x_BLD = block(x_BLD, distance_LL, mask_BLL, time_BLLT)
        x_BLD = self.after(x_BLD)
        if every_position:
            return x_BLD
        customer_BD: Tensor = x_BLD[:, -1] * is_bought_BL[:, -1:].to(torch.float32)
        return customer_BD


class SequenceModel(nn.Module):
    """A fitted encoder with its articles' vectors frozen: what goes into the graph."""

    def __init__(self, encoder: SequenceEncoder, vectors_AD: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        padding_1D = torch.zeros(1, vectors_AD.shape[1])
        self.register_buffer("vectors_A1D", torch.cat([vectors_AD.detach(), padding_1D]))

    vectors_A1D: Tensor

    @property
    def article_vectors_AD(self) -> Tensor:
        """The vectors to score against, [A, D]; a customer's score of article a is customer_BD @ vectors_AD[a]."""
        return self.vectors_A1D[:-1]

    def forward(self, history_BL: Tensor, age_days_BL: Tensor) -> Tensor:
        """Encode each history; [B, D].

        Of a history beyond max_history purchases, those farther back count as if they were max_history - 1 back; it
        costs less to hand over the newest alone, as in fitting.
        """
        customer_BD: Tensor = self.encoder(self.vectors_A1D, history_BL, age_days_BL)
        return customer_BD
