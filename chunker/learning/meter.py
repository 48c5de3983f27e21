"""The log of a training run: its points, and the sums from which they are computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from chunker.learning.ranks import ALONE, Ranks


@dataclass(frozen=True)
class LogPoint:
    """One line of the log.

    Attributes
    ----------
    bytes, seconds: since the beginning of training, resumed runs included.
    bits_per_byte, bytes_per_second: over the time since the previous point; the former as trained, on text
        that was new to the weights, the latter without validation.
    level_bits_per_byte: likewise under levels 0 .. l alone, for each level but the last; None where there is
        one level, or contexts take part.
    rates: share of all bytes that each level received, lowest first; thresholds_bits of the gates.
    learning_rate: of the last step.
    validation_bits_per_byte, validation: on the validation lanes, together and by source, where measured.
    """

    bytes: int
    seconds: float
    bits_per_byte: float
    rates: list[float]
    thresholds_bits: list[float]
    learning_rate: float
    bytes_per_second: float
    level_bits_per_byte: list[float] | None = None
    validation_bits_per_byte: float | None = None
    validation: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """What was measured, as JSON values."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def scalars(self) -> dict[str, float]:
        """Every figure by a name of its own: of a level as "rates/1", of a source as "validation/NAME"."""
        found: dict[str, float] = {}
        for key, value in self.to_json().items():
            if isinstance(value, list):
                found |= {f"{key}/{level}": each for level, each in enumerate(value)}
            elif isinstance(value, dict):
                found |= {f"{key}/{name}": each for name, each in value.items()}
            else:
                found[key] = value
        return found


class Meter:
    """Sums over steps, kept on the device: only `read` waits for it."""

    def __init__(self, levels: int, device: torch.device) -> None:
        self._sums = torch.zeros(1 + levels, dtype=torch.float64, device=device)
        self._level_bits = self._sums.new_zeros(levels)
        self._metered = 0  # levels whose own bits are counted
        self.bytes = 0

    def add(
        self,
        bits: Tensor,
        events: tuple[Tensor, ...],
        count: int | None = None,
        level_bits: tuple[Tensor, ...] = (),
    ) -> None:
        """Count a window: bits (T, B) of its symbols, events (T, B) per level; count: symbols, None: T B.

        level_bits: (T, B) under levels 0 .. l alone, for each level but the last.
        """
        self._sums[0] += bits.sum(dtype=torch.float64)
        for level, received in enumerate(events):
            self._sums[1 + level] += received.sum()
        for level, alone in enumerate(level_bits):
            self._level_bits[level] += alone.sum(dtype=torch.float64)
        self._metered = len(level_bits)
        self.bytes += bits.numel() if count is None else count

    def restart(self) -> None:
        """Forget everything."""
        self._sums.zero_()
        self._level_bits.zero_()
        self.bytes = 0

    def read(self, ranks: Ranks = ALONE) -> tuple[float, list[float], list[float]]:
        """Bits per byte, the share of bytes that each level received, and bits per byte under lower levels
        alone. Of several ranks together, each of which counts the symbols of all."""
        ranks.sum_(self._sums)
        ranks.sum_(self._level_bits)
        count = max(self.bytes, 1)
        bits, *ticks = (self._sums / count).tolist()
        return bits, ticks, (self._level_bits[: self._metered] / count).tolist()
