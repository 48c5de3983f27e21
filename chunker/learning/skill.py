"""What a student took over from its teacher, and what it forgot, measured on the same lanes.

The old skill is what level 0 of the teacher could already predict: bits before and after are compared on
exactly the symbols that level 0 expected *before*. The new skill is measured on all others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from chunker.config import GateRule
from chunker.learning.corpus import Lanes
from chunker.learning.gate import unexpected
from chunker.learning.observation import Categorical, surprise_bits
from chunker.learning.stack import Stack

_WINDOW_SYMBOLS = 1 << 15  # per forward call; bounds the memory for logits


@dataclass(frozen=True)
class Skill:
    """Figures of a student beside its teacher; all are bits per byte but for the shares.

    Attributes
    ----------
    bytes: that were measured.
    level0, teacher, student: of the teacher's level 0 alone, of the whole teacher, and of the student.
    recovered: share of the gap between the first two that the student closed; None where there is no gap.
    old_before, old_after: on what level 0 expected: of level 0, and of the student; None if it expected none.
    new_before, new_after: likewise on what level 0 did not expect.
    passed_up_before, passed_up_after: share of the bytes that the gate above level 0 lets pass if the
        teacher's level 0 is below it, and if the student is, with the same threshold.
    rates: share of the bytes that each level of the teacher received.
    """

    bytes: int
    level0: float
    teacher: float
    student: float
    recovered: float | None
    old_before: float | None
    old_after: float | None
    new_before: float | None
    new_after: float | None
    passed_up_before: float
    passed_up_after: float
    rates: list[float]

    def to_json(self) -> dict[str, Any]:
        """As JSON values, rounded."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


@torch.no_grad()
def measure_skill(teacher: Stack, student: Stack, lanes: Lanes) -> Skill:
    """Run both over lanes (T, N) that start cold; every byte counts the same, whatever its source.

    A teacher of one level has no gate; what it gave less than half the probability counts as not expected.
    """
    device = teacher.thresholds_bits.device
    gated = teacher.growing > 0
    rule = teacher.config.gate if gated else GateRule("surprise", 1.0)
    threshold = teacher.thresholds_bits[0] if gated else torch.ones((), device=device)
    symbols, count = Categorical(teacher.config.symbols), len(lanes.lengths)
    window = max(1, _WINDOW_SYMBOLS // count)
    ends = torch.from_numpy(lanes.lengths).to(device)
    ticks = torch.zeros(teacher.growing + 1, dtype=torch.float64, device=device)
    sums = torch.zeros(9, dtype=torch.float64, device=device)
    states = [teacher.start(count).to(device), student.start(count).to(device)]
    for start in range(0, len(lanes.symbols), window):
        part = torch.from_numpy(lanes.symbols[start : start + window]).to(device).long()
        counted = torch.arange(start, start + len(part), device=device).unsqueeze(1) < ends
        taught, learnt = teacher(part, states[0]), student(part, states[1])
        states = [taught.state, learnt.state]
        before = surprise_bits(taught.level_logits[0], part)
        after = student.bits(learnt, part)
        missed = unexpected(symbols, taught.level_logits[0], part, rule, threshold)
        misses = unexpected(symbols, student.log_probs(learnt), part, rule, threshold)
        old = counted & ~missed
        sums += _totals(
            counted * before,
            counted * teacher.bits(taught, part),
            counted * after,
            old * before,
            old * after,
            old,
            counted & missed,
            counted & misses,
            counted,
        )
        ticks += torch.stack([(events & counted).sum() for events in taught.events])
    level0, whole, bits, old_before, old_after, olds, passed, passes, total = sums.tolist()
    gap = level0 - whole
    return Skill(
        bytes=int(total),
        level0=level0 / total,
        teacher=whole / total,
        student=bits / total,
        recovered=(level0 - bits) / gap if gated and gap > 0 else None,
        old_before=_mean(old_before, olds),
        old_after=_mean(old_after, olds),
        new_before=_mean(level0 - old_before, total - olds),
        new_after=_mean(bits - old_after, total - olds),
        passed_up_before=passed / total,
        passed_up_after=passes / total,
        rates=(ticks / total).tolist(),
    )


def _totals(*parts: Tensor) -> Tensor:
    return torch.stack([part.sum(dtype=torch.float64) for part in parts])


def _mean(total: float, count: float) -> float | None:
    return total / count if count else None


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value
