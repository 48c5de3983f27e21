"""Between a stack's state dict and the tensors of a model file: `levels.0.bias` is called `0.bias` there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_PREFIX = "levels."
_THRESHOLDS = "thresholds_bits"


def to_file(tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    """float32 arrays, named as in a model file, from a stack's state dict."""
    return {name.removeprefix(_PREFIX): tensor.float().cpu().numpy() for name, tensor in tensors.items()}


def from_file(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Tensor]:
    """A stack's state dict from the float tensors of a model file."""
    return {
        name if name == _THRESHOLDS else _PREFIX + name: torch.from_numpy(np.array(array))
        for name, array in arrays.items()
    }
