"""Bits per character on the same lanes: of the float stack (torch) and of its integer twin (numpy only).

All lanes start cold, as in the coder. The twin's figure is what the frequencies that are really coded cost,
without the entropy coder's own overhead and without the archive's frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from chunker.learning.stack import Stack

Bytes = npt.NDArray[np.uint8]
_WINDOW_SYMBOLS = 1 << 16  # per forward call; bounds the memory for logits
_MAX_WINDOW = 1024


class Session(Protocol):
    """What is measured of the twin; `chunker.core.levels.Session` is one."""

    @property
    def ticks(self) -> npt.NDArray[np.int64]:
        """(levels,): inputs that each level received, summed over lanes."""

    def frequencies(self) -> npt.NDArray[np.int64]:
        """(lanes, V): integer frequencies of the next symbol, minus one."""

    def update(self, symbols: npt.NDArray[np.integer]) -> None:
        """Take in (lanes,) symbols that came."""

    def keep(self, lanes: int) -> None:
        """Go on with the first `lanes` lanes only."""


class Twin(Protocol):
    """`chunker.core.levels.IntegerStack` is one."""

    def session(self, lanes: int) -> Session:
        """A new session without history."""


@dataclass(frozen=True)
class Score:
    """What a text costs: `bits` for `characters`, and the inputs `ticks` that each level received."""

    characters: int
    bits: float
    ticks: tuple[int, ...]

    def __add__(self, other: Score) -> Score:
        ticks = tuple(a + b for a, b in zip(self.ticks, other.ticks, strict=True))
        return Score(self.characters + other.characters, self.bits + other.bits, ticks)

    @property
    def bits_per_char(self) -> float:
        return self.bits / self.characters

    @property
    def rates(self) -> list[float]:
        """Share of the characters that each level received, lowest first."""
        return [ticks / self.characters for ticks in self.ticks]


def loss_percent(twin: Score, exact: Score) -> float:
    """How many percent more bits the twin needs than the float stack on the same text."""
    return 100 * (twin.bits / exact.bits - 1)


def score_twin(twin: Twin, symbols: Bytes, lengths: npt.NDArray[np.int64]) -> Score:
    """Cost of lanes (T, N) under the integer twin: -log2(f / total) of every symbol.

    Only the first lengths[n] symbols of lane n count; the longest lanes come first.
    """
    session = twin.session(len(lengths))
    bits, total, alive = 0.0, 0.0, len(lengths)
    for t, row in enumerate(symbols):
        left = int(np.count_nonzero(lengths > t))
        if left < alive:
            session.keep(left)
            alive = left
        minus_one = session.frequencies()
        if not total:
            total = float(minus_one[0].sum()) + minus_one.shape[1]
        bits -= float(np.log2((minus_one[np.arange(alive), row[:alive]] + 1) / total).sum())
        session.update(row[:alive])
    return Score(int(lengths.sum()), bits, tuple(map(int, session.ticks)))


def score_stack(stack: Stack, symbols: Bytes, lengths: npt.NDArray[np.int64]) -> Score:
    """Cost of lanes (T, N) under the float stack, in float32."""
    bits, ticks = score_lanes(stack, symbols, lengths)
    return Score(int(lengths.sum()), float(bits.sum()), tuple(map(int, ticks)))


def score_lanes(
    stack: Stack, symbols: Bytes, lengths: npt.NDArray[np.int64], bfloat16: bool = False
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Bits of each lane (N,) under the float stack, and the inputs that each level received (levels,).

    Only the first lengths[n] symbols of lane n of `symbols` (T, N) count.
    """
    import torch

    device = stack.thresholds_bits.device
    steps, lanes = symbols.shape
    window = max(1, min(_MAX_WINDOW, _WINDOW_SYMBOLS // lanes))
    bits = torch.zeros(lanes, dtype=torch.float64, device=device)
    ticks = torch.zeros(len(stack.config.levels), dtype=torch.int64, device=device)
    ends = torch.from_numpy(lengths).to(device)
    training = stack.training
    stack.eval()
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        state = stack.start(lanes)
        for start in range(0, steps, window):
            part = torch.from_numpy(symbols[start : start + window]).to(device).long()
            counted = torch.arange(start, start + len(part), device=device).unsqueeze(1) < ends
            output = stack(part, state)
            state = output.state
            bits += (stack.bits(output, part) * counted).sum(0, dtype=torch.float64)
            for level, events in enumerate(output.events):
                ticks[level] += (events & counted).sum()
    stack.train(training)
    return bits.cpu().numpy(), ticks.cpu().numpy()
