"""Writes a model as the native tests read it: python tests/native/blob.py MODEL BLOB

MODEL is a model file or the name of a built-in model. Everything is int32 or int8, little-endian, each array
padded to 4 bytes, in the order in which read_stack in common.h takes it.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from chunker.models import Model, load_model

MAGIC = 0x4B484331
MAX_LEVELS, MAX_ORDERS = 16, 8  # CHUNKER_MAX_LEVELS, CHUNKER_MAX_ORDERS
CELLS = ("rnn", "gru", "lstm")
MATRICES = ("symbol_input", "time_input", "guess_input", "confidence_input", "below", "recurrent", "readout")
BIASES = ("bias", "candidate_bias", "readout_bias")


def integers(*values: int) -> bytes:
    """Each in four bytes."""
    return struct.pack(f"<{len(values)}i", *values)


def matrix(model: Model, name: str) -> bytes:
    """Rows, columns, numbers, multipliers; two zeros if the model has no such matrix."""
    if f"{name}.q" not in model.raw_tensors:
        return integers(0, 0)
    q, multiplier = model.raw_tensors[f"{name}.q"], model.raw_tensors[f"{name}.multiplier"]
    return integers(*q.shape) + q.data + bytes(-len(q.data) % 4) + multiplier.data


def bias(model: Model, name: str) -> bytes:
    """How many, and each; zero if the model has no such bias."""
    if name not in model.raw_tensors:
        return integers(0)
    values = model.raw_tensors[name]
    return integers(*values.shape) + values.data


def blob(model: Model) -> bytes:
    """The whole model."""
    config, tensors = model.config, model.raw_tensors
    catch_up = config.wake.catch_up if config.wake else 0
    thresholds = tensors["thresholds"].data
    parts = [
        integers(
            MAGIC, CELLS.index(config.cell), len(config.levels), int(config.gate.rule != "argmax"), catch_up
        ),
        thresholds + bytes(4 * MAX_LEVELS - len(thresholds)),
    ]
    orders = list(config.ngrams.orders) if config.ngrams else []
    sizes = (config.ngrams.word, config.ngrams.rows) if config.ngrams else (0, 0)
    parts.append(integers(len(orders), *sizes))
    parts.append(integers(*orders, *[0] * (MAX_ORDERS - len(orders))))
    parts.append(matrix(model, "0.ngram_table"))
    for index, width in enumerate(config.levels):
        parts.append(integers(width))
        parts += [matrix(model, f"{index}.{name}") for name in MATRICES]
        parts += [bias(model, f"{index}.{name}") for name in BIASES]
    return b"".join(parts)


if __name__ == "__main__":
    source, target = sys.argv[1:]
    Path(target).write_bytes(blob(load_model(source)))
