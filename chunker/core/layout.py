"""Names, types and shapes of a stack's tensors, as plain data: nothing here needs numpy."""

from __future__ import annotations

import sys
from array import array
from typing import NamedTuple

from chunker.config import CONFIDENCES, GUESSES, TIME_BUCKETS, StackConfig

Shape = tuple[int, ...]


class RawTensor(NamedTuple):
    """A tensor as it lies in a file.

    dtype: "|i1", "<i4" or "<f4", as numpy spells them. data: little-endian, in C order.
    """

    dtype: str
    shape: Shape
    data: bytes

    def integers(self) -> array[int]:
        """The values of an "<i4", as this machine holds them."""
        values = array("i", self.data)
        if sys.byteorder == "big":
            values.byteswap()
        return values


# A matrix multiplies a state; a table gives one of its rows. Both are int8 with one multiplier per column.
MATRICES = ("below", "recurrent", "readout", "time_readout")
TABLES = ("symbol_input", "time_input", "guess_input", "confidence_input", "ngram_table")
READOUTS = ("readout", "time_readout", "readout_bias", "time_readout_bias")  # in units of logits

# Every column needs 127 * sum |q| * multiplier < PRODUCT_LIMIT. Then each product, after its shift by 24, is
# below 2**26, and every sum of products in a stack fits 32 bits.
PRODUCT_LIMIT = 2**50
BIAS_LIMIT = 2**24


def kind(name: str) -> str:
    """A tensor's name without its level and suffix: `recurrent` for `0.recurrent` and `0.recurrent.q`."""
    return name.split(".")[1] if "." in name else name


def float_shapes(config: StackConfig) -> dict[str, Shape]:
    """Names and shapes of the float32 tensors that a stack of this configuration has."""
    shapes: dict[str, Shape] = {"thresholds_bits": (len(config.levels) - 1,)}
    if config.ngrams is not None:
        shapes["0.ngram_table"] = (config.ngrams.tables * config.ngrams.rows, config.ngrams.width)
    if config.told_guess:
        blocks = config.gates_per_cell * config.levels[0]
        shapes["0.guess_input"] = (GUESSES, blocks)
        shapes["0.confidence_input"] = (CONFIDENCES, blocks)
    for i, width in enumerate(config.levels):
        blocks = config.gates_per_cell * width
        shapes[f"{i}.symbol_input"] = (config.symbols, blocks)
        shapes[f"{i}.recurrent"] = (width, blocks)
        shapes[f"{i}.bias"] = (blocks,)
        shapes[f"{i}.readout"] = (width, config.symbols)
        shapes[f"{i}.readout_bias"] = (config.symbols,)
        if config.cell == "gru":
            shapes[f"{i}.candidate_bias"] = (width,)
        if config.told_time(i):
            shapes[f"{i}.time_input"] = (TIME_BUCKETS, blocks)
        if config.below(i):
            shapes[f"{i}.below"] = (config.below(i), blocks)
        if config.predicts_time(i):
            shapes[f"{i}.time_readout"] = (width, i * TIME_BUCKETS)
            shapes[f"{i}.time_readout_bias"] = (i * TIME_BUCKETS,)
    return shapes


def integer_layout(config: StackConfig) -> dict[str, tuple[str, Shape]]:
    """Names, types ("|i1" or "<i4", as numpy spells them) and shapes of the integer tensors."""
    layout: dict[str, tuple[str, Shape]] = {}
    for name, shape in float_shapes(config).items():
        if name == "thresholds_bits":
            layout["thresholds"] = ("<i4", shape)
        elif kind(name) in MATRICES + TABLES:
            layout[f"{name}.q"] = ("|i1", shape)
            layout[f"{name}.multiplier"] = ("<i4", shape[1:])
        else:
            layout[name] = ("<i4", shape)
    return layout
