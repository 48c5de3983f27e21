"""Between the float stack and the tensors of a model file, which call level 0's weights `0.recurrent` etc."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from chunker.config import StackConfig
from chunker.errors import NotAModel
from chunker.learning.stack import Stack

_PREFIX = "levels."  # of the stack's own names


def to_file(tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    """float32 arrays for chunker.models.save_model from a stack's state dict."""
    return {name.removeprefix(_PREFIX): tensor.float().cpu().numpy() for name, tensor in tensors.items()}


def build_stack(config: StackConfig, arrays: Mapping[str, npt.NDArray[Any]]) -> Stack:
    """The complete float stack from the float tensors of a model file.

    Raises
    ------
    NotAModel: tensors are missing or have other shapes than the configuration says.
    """
    stack = Stack(config)
    while stack.growing + 1 < len(config.levels):
        stack.grow()
    tensors = {
        name if name == "thresholds_bits" else _PREFIX + name: torch.from_numpy(np.array(array))
        for name, array in arrays.items()
    }
    try:
        stack.load_state_dict(tensors)
    except RuntimeError as error:
        raise NotAModel("the model's float tensors do not fit its configuration; train it again") from error
    return stack.eval()
