"""Events of each row moved to the front, and values picked by index: how an upper level gets its inputs."""

from __future__ import annotations

import torch
from torch import Tensor


def pack(events: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
    """Of each column (T, B) or (T, B, D) its values at each row's events (T, B) bool, in order: (E, B[, D]).

    E is the most events of a row; rows with fewer are filled up with zeros.
    """
    longest = int(events.sum(0).max()) if events.numel() else 0
    slot = torch.where(events, count_before(events), longest)  # what is no event lands in a spare slot
    packed = []
    for column in columns:
        spread = slot if column.dim() == 2 else slot.unsqueeze(-1).expand(column.shape)
        empty = column.new_zeros(longest + 1, *column.shape[1:])
        packed.append(empty.scatter(0, spread, column)[:longest])
    return tuple(packed)


def count_before(events: Tensor) -> Tensor:
    """(T, B): how many events (T, B) bool each row had before time t."""
    return events.cumsum(0) - events.to(torch.int64)


def pick(values: Tensor, index: Tensor) -> Tensor:
    """values (N, B, W) picked by index (T, B) -> (T, B, W)."""
    N, B, W = values.shape
    flat = index * B + torch.arange(B, device=index.device)
    return values.reshape(N * B, W).index_select(0, flat.reshape(-1)).view(*index.shape, W)
