"""What a classifier's stack received of one case: which of its inputs reached which level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chunker.classification.inputs import Array
from chunker.learning.history import History
from chunker.views.bins import EDGES_BITS, bin_of
from chunker.views.fragment import fragment, glyphs_of


@dataclass(frozen=True)
class Events:
    """A case of T inputs as a stack of L levels read it. A notebook shows it in colours.

    inputs: (T,) symbols or (T, D) vectors, as they were given. bits: (T,) surprise under the lowest
    level. levels: for each level the times (E,) of the inputs that it received; the lowest received all.
    text: whether the symbols are bytes of a text.
    """

    inputs: Array
    bits: Array
    levels: tuple[Array, ...]
    text: bool = False

    @classmethod
    def of(cls, inputs: Array, history: History, text: bool) -> Events:
        """From what a stack read."""
        return cls(inputs, history.bits, history.levels[:-1], text)

    @property
    def top(self) -> Array:
        """(E,) times of the inputs that reached the top level."""
        return self.levels[-1]

    @property
    def reach(self) -> Array:
        """(T,) the highest level that received each input, counted from 0."""
        reach = np.zeros(len(self.inputs), np.int64)
        for level, times in enumerate(self.levels):
            reach[times] = level
        return reach

    def _repr_html_(self) -> str:
        """Symbols coloured by their bits, vectors by the level that they reached; below each line what the
        upper levels received."""
        reach = self.reach.tolist()
        title = f"{len(self.top):,} of {len(self.inputs):,} inputs reached level {len(self.levels) - 1}"
        if self.inputs.ndim == 2:
            steps = len(EDGES_BITS) / max(1, len(self.levels) - 1)
            bins = [round(level * steps) for level in reach]
            return fragment(["\u25ae"] * len(reach), bins, reach, title=title, bits=False)
        symbols = self.inputs.tolist()
        glyphs = glyphs_of(bytes(symbols)) if self.text else [f"{symbol} " for symbol in symbols]
        return fragment(glyphs, [bin_of(bits) for bits in self.bits.tolist()], reach, title=title)
