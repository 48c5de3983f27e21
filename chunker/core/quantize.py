"""From a trained stack's float tensors to the integer twin's, deterministically, in numpy alone.

Matrices become int8 with one float32 scale a column; biases stay float32; gate thresholds become whole
steps of 1/128 bit. Only correctly rounded operations, so that every machine freezes to the same integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunker.core.tables import LOG_STEPS, WEIGHT_BITS
from chunker.config import TIME_BUCKETS, StackConfig
from chunker.errors import NotAModel

Tensors = dict[str, NDArray[Any]]
MATRICES = ("symbol_input", "ngram_table", "time_input", "below", "recurrent", "readout", "time_readout")
BIASES = ("bias", "candidate_bias", "readout_bias", "time_readout_bias")
LARGEST = 127
SMALLEST_SCALE = 2.0**-40  # learning divides by it; far below what training makes


def float_shapes(config: StackConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the float tensors that a stack of this configuration has."""
    shapes: dict[str, tuple[int, ...]] = {"thresholds_bits": (len(config.levels) - 1,)}
    if config.ngrams is not None:
        shapes["0.ngram_table"] = (len(config.ngrams.orders) * config.ngrams.rows, config.ngrams.width)
    for i, width in enumerate(config.levels):
        blocks = config.gates_per_cell * width
        shapes[f"{i}.symbol_input"] = (config.symbols, blocks)
        shapes[f"{i}.recurrent"] = (width, blocks)
        shapes[f"{i}.bias"] = (blocks,)
        shapes[f"{i}.readout"] = (width, config.symbols)
        shapes[f"{i}.readout_bias"] = (config.symbols,)
        if config.cell == "gru":
            shapes[f"{i}.candidate_bias"] = (width,)
        if i and config.time_code:
            shapes[f"{i}.time_input"] = (TIME_BUCKETS, blocks)
        if config.below(i):
            shapes[f"{i}.below"] = (config.below(i), blocks)
        if config.predicts_time(i):
            shapes[f"{i}.time_readout"] = (width, i * TIME_BUCKETS)
            shapes[f"{i}.time_readout_bias"] = (i * TIME_BUCKETS,)
    return shapes


def integer_layout(config: StackConfig) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Names, types and shapes of the integer tensors that a stack of this configuration has."""
    f4, i1 = np.dtype("<f4"), np.dtype("i1")
    layout: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    for name, shape in float_shapes(config).items():
        if name == "thresholds_bits":
            layout["thresholds"] = (np.dtype("<i4"), shape)
        elif name.split(".")[1] in MATRICES:
            layout[f"{name}.q"] = (i1, shape)
            layout[f"{name}.scale"] = (f4, shape[1:])
        else:
            layout[name] = (f4, shape)
    return layout


def freeze(tensors: Tensors) -> Tensors:
    """Integer tensors from float tensors (float32, named as in `float_shapes`).

    Raises
    ------
    NotAModel: a weight is not finite.
    """
    frozen: Tensors = {}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise NotAModel(f"tensor {name} holds values that are not finite; the training diverged")
        if name == "thresholds_bits":
            steps = np.rint(tensor.astype(np.float64) * LOG_STEPS)
            frozen["thresholds"] = np.clip(steps, 0, WEIGHT_BITS * LOG_STEPS).astype("<i4")
        elif name.split(".")[1] in MATRICES:
            frozen[f"{name}.q"], frozen[f"{name}.scale"] = quantise(tensor)
        else:
            frozen[name] = tensor.astype("<f4")
    return frozen


def quantise(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 values (K, N) and float32 scales (N,), values * scales close to the matrix (K, N)."""
    matrix = matrix.astype(np.float32)
    peak = np.abs(matrix).max(0, initial=np.float32(0))
    scale = np.where(peak >= 2 * LARGEST * SMALLEST_SCALE, peak, np.float32(1)) / np.float32(LARGEST)
    values = np.clip(np.rint(matrix / scale), -LARGEST, LARGEST)
    return values.astype(np.int8), scale.astype("<f4")


def thaw(tensors: Tensors) -> Tensors:
    """Float tensors from integer tensors: what training can go on from (not the original's bits)."""
    floats: Tensors = {}
    for name, tensor in tensors.items():
        if name == "thresholds":
            floats["thresholds_bits"] = (tensor / np.float64(LOG_STEPS)).astype(np.float32)
        elif name.endswith(".q"):
            floats[name[:-2]] = tensor.astype(np.float32) * tensors[name[:-2] + ".scale"]
        elif not name.endswith(".scale"):
            floats[name] = tensor.astype(np.float32)
    return floats
