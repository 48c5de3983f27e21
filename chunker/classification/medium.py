"""What a level predicts, and how surprise is measured: of symbols, and of vectors of real numbers.

    medium   an input        a prediction                   surprise in bits
    symbols  a number < V    (V,) logits                    -log2 p(x)
    vectors  (D,) reals      (2 D,) means and log scales    -log2 of the Gaussian density times quantum^D

Vectors are in standard deviations of each channel over the training data, so one tolerance fits all channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from chunker.errors import UsageError

KINDS = ("symbols", "vectors")
RULES = ("rate", "surprise", "argmax", "tolerance")
NATS_PER_BIT = math.log(2)
MAX_LOG_SCALE = 3.0


@dataclass(frozen=True)
class HistoryGate:
    """When an input counts as unexpected and goes up to the next level. The first of a sequence always does.

    rule       value                 an input x goes up iff
    argmax     unused                symbols: x is not the most probable symbol (Schmidhuber 1992)
    surprise   bits                  -log2 p(x) > value
    tolerance  standard deviations   vectors: a channel is further from its predicted mean than value
    rate       share                 symbols: as `surprise`, vectors: as `tolerance`, the threshold calibrated
                                     so that this share of the training inputs goes up
    """

    rule: str = "rate"
    value: float = 0.25

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UsageError(f"gate rule {self.rule!r} is not known; choose one of {', '.join(RULES)}")
        if self.rule == "rate" and not 0 < self.value < 1:
            raise UsageError(f"a gate rate of {self.value} makes no sense; choose one between 0 and 1")
        if self.rule in ("surprise", "tolerance") and not (math.isfinite(self.value) and self.value > 0):
            raise UsageError(f"a gate threshold of {self.value} makes no sense; choose one above 0")


@dataclass(frozen=True)
class Medium:
    """The kind of the inputs, and all that differs between the kinds.

    kind: "symbols" or "vectors". size: symbols in the alphabet (V), or channels of a vector (D).
    quantum: vectors: the resolution, in standard deviations, against which their density becomes bits; also
        the smallest scale that a level may predict.
    """

    kind: str
    size: int
    quantum: float = 2.0**-6

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"inputs of kind {self.kind!r} are not known; choose symbols or vectors")
        if self.size < 1:
            raise UsageError("there must be at least one symbol or channel")

    @property
    def is_symbols(self) -> bool:
        return self.kind == "symbols"

    @property
    def outputs(self) -> int:
        """Width of a prediction."""
        return self.size if self.is_symbols else 2 * self.size

    def check_gate(self, gate: HistoryGate) -> None:
        """Raise UsageError if the gate's rule does not fit the kind of the inputs."""
        wrong = "tolerance" if self.is_symbols else "argmax"
        if gate.rule == wrong:
            other = "argmax, surprise or rate" if self.is_symbols else "tolerance, surprise or rate"
            raise UsageError(f"the gate rule {wrong} does not fit {self.kind}; choose {other}")

    def empty(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Zeros of the given shape, plus (D,) for vectors; symbols are int64."""
        if self.is_symbols:
            return torch.zeros(shape, dtype=torch.int64)
        return torch.zeros(*shape, self.size, dtype=dtype)

    def bits(self, prediction: Tensor, inputs: Tensor) -> Tensor:
        """Surprise of inputs (...) or (..., D) under predictions (..., V) or (..., 2 D), in bits: (...)."""
        if self.is_symbols:
            flat = torch.nn.functional.cross_entropy(
                prediction.reshape(-1, self.size), inputs.reshape(-1), reduction="none"
            )
            return flat.view(inputs.shape) / NATS_PER_BIT
        mean, log_scale = prediction[..., : self.size], prediction[..., self.size :]
        deviation = (inputs - mean) * torch.exp(-log_scale)
        nats: Tensor = (
            0.5 * deviation * deviation + log_scale + 0.5 * math.log(2 * math.pi) - math.log(self.quantum)
        )
        bits: Tensor = nats.sum(-1) / NATS_PER_BIT
        return bits

    def entropy_bits(self, prediction: Tensor) -> Tensor:
        """The surprise that a prediction itself expects, in bits: (...)."""
        if self.is_symbols:
            logs = torch.log_softmax(prediction, -1)
            return -(logs.exp() * logs).sum(-1) / NATS_PER_BIT
        log_scale = prediction[..., self.size :]
        nats = log_scale + 0.5 * math.log(2 * math.pi * math.e) - math.log(self.quantum)
        return nats.sum(-1) / NATS_PER_BIT

    def error(self, prediction: Tensor, inputs: Tensor) -> Tensor:
        """Vectors: the largest distance of a channel from its predicted mean, in standard deviations: (...)."""
        return (inputs - prediction[..., : self.size]).abs().amax(-1)

    def measure(self, gate: HistoryGate, prediction: Tensor, inputs: Tensor) -> Tensor:
        """What the gate compares with its threshold: bits, an error, or (argmax) 1 for a miss: (...)."""
        if gate.rule == "argmax":
            return (prediction.argmax(-1) != inputs).to(prediction.dtype)
        if gate.rule == "surprise" or self.is_symbols:
            return self.bits(prediction, inputs)
        return self.error(prediction, inputs)

    def best(self, prediction: Tensor) -> Tensor:
        """The input that a prediction stands for: the most probable symbol (...), or the means (..., D)."""
        return prediction.argmax(-1) if self.is_symbols else prediction[..., : self.size]

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Medium:
        """The inverse of `to_json`."""
        return cls(kind=str(fields["kind"]), size=int(fields["size"]), quantum=float(fields["quantum"]))
