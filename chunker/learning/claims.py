"""What a file claims of a net, compared with what it holds before the net takes memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Protocol

import torch
from torch import nn


class Shaped(Protocol):
    """An array or a tensor."""

    @property
    def shape(self) -> Iterable[int]: ...


def check_fits(make: Callable[[], nn.Module], tensors: Iterable[Shaped]) -> None:
    """Raise ValueError if the net has more numbers than the tensors; it is made without memory for them."""
    with torch.device("meta"):
        needed = sum(value.numel() for value in make().state_dict().values())
    if needed > sum(prod(tensor.shape) for tensor in tensors):
        raise ValueError(f"a net of {needed} numbers does not fit into the file")
