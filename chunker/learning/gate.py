"""Gates: which inputs a level did not expect. The integer model decides the same on its frequencies."""

from __future__ import annotations

import torch
from torch import Tensor

from chunker.config import GateRule
from chunker.learning.ngrams import lower
from chunker.learning.observation import NATS_PER_BIT, Observation, at_least_float32


def unexpected(
    observation: Observation,
    prediction: Tensor,
    inputs: Tensor,
    gate: GateRule,
    threshold: Tensor | float,
) -> Tensor:
    """Which inputs (...) or (..., D) go up: (...) bool; predictions (..., W) were made before reading them.

    threshold: in bits or standard deviations, as the rule measures (see `GateRule`); not used by argmax
    and word.
    """
    if gate.rule == "word":
        return lower(inputs) == 0
    measured = observation.measure(gate, prediction, inputs)
    return measured > 0 if gate.rule == "argmax" else measured > threshold


def expected_set(logits: Tensor, gate: GateRule, threshold_bits: Tensor) -> Tensor:
    """Which symbols a level would count as expected: (..., V) bool.

    With the argmax rule, or a threshold of at most 1 bit, at most one symbol is expected at a time, and a
    left-out input can be reconstructed (Schmidhuber 1992, section 2).
    """
    if gate.rule == "argmax":
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, best, True)
    return torch.log_softmax(at_least_float32(logits), -1) >= -threshold_bits * NATS_PER_BIT


@torch.no_grad()
def follow_rate(threshold_bits: Tensor, surprises: Tensor, rate: float, momentum: float = 0.98) -> Tensor:
    """The threshold moved towards the one that passes the share `rate` of `surprises` (bits)."""
    if surprises.numel() < 16:
        return threshold_bits
    target = torch.quantile(surprises.float()[: 2**20], 1 - rate)
    return torch.lerp(target.to(threshold_bits), threshold_bits, momentum)
