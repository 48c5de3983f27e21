"""Quantizes a trained stack's float tensors to integers, and back: deterministic, with numpy alone.

Matrices and tables become int8 with an int32 multiplier per column, biases int32, gate thresholds whole steps
of 1/128 bit. Units: pre-activations 2**-11, logits 1/128 bit, states in products 2**-7.

    value = q * scale      multiplier = rint(scale * unit)      bias = rint(value * unit)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunker.core.layout import BIAS_LIMIT, MATRICES, PRODUCT_LIMIT, READOUTS, TABLES, kind
from chunker.core.products import LARGEST, PRODUCT_BITS
from chunker.core.tables import LOG_STEPS, WEIGHT_BITS
from chunker.errors import NotAModel

Tensors = dict[str, NDArray[Any]]

PREACTIVATION_UNIT = 2.0**11
LOGIT_UNIT = LOG_STEPS * 1.4426950408889634  # from nats: log2(e) * 128
_STATE_UNIT = 2.0**7


def bias_unit(name: str) -> float:
    """The integer that stands for a bias of 1.0."""
    return LOGIT_UNIT if kind(name) in READOUTS else PREACTIVATION_UNIT


def multiplier_unit(name: str) -> float:
    """The multiplier that stands for a scale of 1.0 of a matrix or table."""
    if kind(name) == "ngram_table":  # its sum is a state
        return _STATE_UNIT * 2.0**17
    return bias_unit(name) / _STATE_UNIT * 2.0**PRODUCT_BITS


def quantize(tensors: Tensors) -> Tensors:
    """Integer tensors from float tensors (float32, named as in `float_shapes`).

    Raises
    ------
    NotAModel: a weight is not finite, or so large that 32 bits would not hold it or a stack's sums.
    """
    integers: Tensors = {}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise NotAModel(f"tensor {name} holds values that are not finite; the training diverged")
        wide = tensor.astype(np.float64)
        if name == "thresholds_bits":
            steps = np.clip(np.rint(wide * LOG_STEPS), 0, WEIGHT_BITS * LOG_STEPS)
            integers["thresholds"] = steps.astype("<i4")
        elif kind(name) in MATRICES + TABLES:
            q, scale = _quantize_columns(tensor)
            multiplier = np.rint(scale.astype(np.float64) * multiplier_unit(name))
            q *= multiplier >= 1  # a smaller multiplier hardly ever gives a whole unit: drop the column
            multiplier = np.maximum(multiplier, 1)
            _refuse_large(name, multiplier.max(initial=1) > 2**31 - 1)
            if kind(name) in MATRICES:
                _refuse_large(name, _heaviest(q, multiplier) >= PRODUCT_LIMIT)
            integers[f"{name}.q"], integers[f"{name}.multiplier"] = q, multiplier.astype("<i4")
        else:
            bias = np.rint(wide * bias_unit(name))
            _refuse_large(name, np.abs(bias).max(initial=0) >= BIAS_LIMIT)
            integers[name] = bias.astype("<i4")
    return integers


def _refuse_large(name: str, large: np.bool_ | bool) -> None:
    if large:
        raise NotAModel(f"tensor {name} holds weights too large for integers; the training diverged")


def _heaviest(q: NDArray[np.int8], multiplier: NDArray[np.float64]) -> float:
    """What a column's sum of products with a state may come to at most."""
    return float((LARGEST * np.abs(q.astype(np.int64)).sum(0) * multiplier).max(initial=0))


def _quantize_columns(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 values (K, N) and float32 scales (N,), values * scales close to the matrix (K, N)."""
    matrix = matrix.astype(np.float32)
    peak = np.abs(matrix).max(0, initial=np.float32(0))
    scale = np.maximum(peak / np.float32(LARGEST), np.finfo(np.float32).tiny)
    values = np.clip(np.rint(matrix / scale), -LARGEST, LARGEST)
    return values.astype(np.int8), scale


def dequantize(tensors: Tensors) -> Tensors:
    """Float tensors from integer tensors. Training can continue from them; rounding is not undone."""
    floats: Tensors = {}
    for name, tensor in tensors.items():
        if name == "thresholds":
            floats["thresholds_bits"] = (tensor / np.float64(LOG_STEPS)).astype(np.float32)
        elif name.endswith(".q"):
            name = name[:-2]
            scale = tensors[f"{name}.multiplier"] / np.float64(multiplier_unit(name))
            floats[name] = tensor.astype(np.float32) * scale.astype(np.float32)
        elif not name.endswith(".multiplier"):
            floats[name] = (tensor / np.float64(bias_unit(name))).astype(np.float32)
    return floats
