"""Observations as symbols, which is what a stack predicts.

    space                          one observation is
    Discrete                       its number
    MultiBinary, MultiDiscrete     all their numbers together, the first counting most
    Box of whole numbers           likewise
    Box of real numbers            likewise, each cut into `bins` equal parts between its bounds

Together they make an alphabet of as many symbols as there are combinations, so this is for small spaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from chunker.errors import UsageError

MOST_SYMBOLS = 4096


@dataclass(frozen=True)
class Alphabet:
    """How the observations of a space are numbered.

    low, width: (D,) where each part of an observation begins, and how wide a bin of it is. sizes: (D,) bins.
    """

    low: NDArray[Any]
    width: NDArray[np.float64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, space: gym.Space, bins: int = 8) -> Alphabet:
        """That of a space.

        Raises
        ------
        UsageError: the space is of another kind, has no bounds, or too many combinations.
        """
        if isinstance(space, gym.spaces.Discrete):
            low, sizes, width = np.array([space.start]), np.array([space.n]), np.ones(1)
        elif isinstance(space, gym.spaces.MultiBinary):
            sizes = np.full(int(np.prod(space.shape)), 2)
            low, width = np.zeros_like(sizes), np.ones(len(sizes))
        elif isinstance(space, gym.spaces.MultiDiscrete):
            low, sizes = space.start.ravel(), space.nvec.ravel()
            width = np.ones(len(sizes))
        elif isinstance(space, gym.spaces.Box):
            low, width, sizes = _of_box(space, bins)
        else:
            raise UsageError(
                f"observations of a {type(space).__name__} space are no symbols; make them Discrete or a "
                "small Box before, as with gymnasium.wrappers.TransformObservation"
            )
        count = float(np.prod(sizes.astype(np.float64)))
        if count > MOST_SYMBOLS:
            raise UsageError(
                f"observations of this space come to {count:.3g} symbols, and a stack takes {MOST_SYMBOLS}; "
                "leave parts of them out, or set fewer bins"
            )
        return cls(low, width, sizes.astype(np.int64))

    @property
    def size(self) -> int:
        """Number of symbols, at least 2."""
        return max(int(self.sizes.prod()), 2)

    def number(self, observations: Any, rows: int) -> NDArray[np.int64]:
        """The symbols (B,) of B observations."""
        values = np.asarray(observations).reshape(rows, -1)
        digits = np.floor((values - self.low) / self.width).astype(np.int64).clip(0, self.sizes - 1)
        places = np.append(self.sizes[:0:-1].cumprod()[::-1], 1)
        return np.asarray(digits @ places)


def _of_box(space: gym.spaces.Box, bins: int) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.int64]]:
    if not space.is_bounded():
        raise UsageError(
            "a Box without bounds cannot be cut into bins; bound it, as with "
            "gymnasium.wrappers.RescaleObservation or TransformObservation"
        )
    low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    if np.issubdtype(space.dtype, np.integer):
        return low, np.ones(len(low)), (high - low + 1).astype(np.int64)
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise UsageError(f"bins={bins!r}: real numbers are cut into a whole number of bins, such as 8")
    return low, np.maximum(high - low, np.finfo(np.float64).tiny) / bins, np.full(len(low), bins)
