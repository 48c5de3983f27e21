"""Gates: which inputs a level did not expect (torch half; the integer model has its own, on weights)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from chunker.config import GateRule

NATS_PER_BIT = math.log(2)


def surprise_bits(logits: Tensor, symbols: Tensor) -> Tensor:
    """-log2 p(symbol), shape of `symbols` (...); logits (..., V)."""
    flat = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).float(), symbols.reshape(-1), reduction="none"
    )
    return flat.view(symbols.shape) / NATS_PER_BIT


def expected_set(logits: Tensor, rule: GateRule, threshold_bits: Tensor) -> Tensor:
    """Which symbols a level would count as expected: (..., V) bool.

    With the argmax rule, or a threshold of at most 1 bit, at most one symbol is expected at a time, and a
    left-out input can be reconstructed (Schmidhuber 1992, section 2).
    """
    if rule.rule == "argmax":
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, best, True)
    return torch.log_softmax(logits.float(), -1) >= -threshold_bits * NATS_PER_BIT


def unexpected(logits: Tensor, symbols: Tensor, rule: GateRule, threshold_bits: Tensor) -> Tensor:
    """Which inputs go up: bool, shape of `symbols`; logits (..., V) were made before reading them."""
    if rule.rule == "argmax":
        return logits.argmax(-1) != symbols
    return surprise_bits(logits, symbols) > threshold_bits


@torch.no_grad()
def follow_rate(threshold_bits: Tensor, surprises: Tensor, rate: float, momentum: float = 0.98) -> Tensor:
    """The threshold moved towards the one that passes the share `rate` of `surprises` (bits)."""
    if surprises.numel() < 16:
        return threshold_bits
    target = torch.quantile(surprises.float()[: 2**20], 1 - rate)
    return torch.lerp(target.to(threshold_bits), threshold_bits, momentum)
