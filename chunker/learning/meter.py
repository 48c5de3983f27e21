"""The log of a training run: its points, and the sums from which they are computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LogPoint:
    """One line of the log.

    Attributes
    ----------
    bytes, seconds: since the beginning of training, resumed runs included.
    bits_per_byte, bytes_per_second: over the time since the previous point; the former as trained, on text
        that was new to the weights, the latter without validation.
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
    validation_bits_per_byte: float | None = None
    validation: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """What was measured, as JSON values."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class Meter:
    """Sums over steps, kept on the device: only `read` waits for it."""

    def __init__(self, levels: int, device: torch.device) -> None:
        self._sums = torch.zeros(1 + levels, dtype=torch.float64, device=device)
        self.bytes = 0

    def add(self, bits: Tensor, events: tuple[Tensor, ...], count: int | None = None) -> None:
        """Count a window: bits (T, B) of its symbols, events (T, B) per level; count: symbols, None: T B."""
        self._sums[0] += bits.sum(dtype=torch.float64)
        for level, received in enumerate(events):
            self._sums[1 + level] += received.sum()
        self.bytes += bits.numel() if count is None else count

    def restart(self) -> None:
        """Forget everything."""
        self._sums.zero_()
        self.bytes = 0

    def read(self) -> tuple[float, list[float]]:
        """Bits per byte and the share of bytes that each level received."""
        bits, *ticks = (self._sums / max(self.bytes, 1)).tolist()
        return bits, ticks
