"""Observation models: what a level predicts, and how surprise is measured, of symbols and of vectors.

    model        an input        a prediction                   surprise in bits
    Categorical  a number < V    (V,) logits                    -log2 p(x)
    Gaussian     (D,) reals      (2 D,) means and log scales    -log2 of the density times quantum^D

Vectors are in standard deviations of each channel over the training data, so one tolerance fits all channels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt
import torch
from torch import Tensor

from chunker.config import GateRule
from chunker.errors import UsageError

Array = npt.NDArray[Any]
NATS_PER_BIT = math.log(2)
MAX_LOG_SCALE = 3.0


@dataclass(frozen=True)
class Observation(ABC):
    """The distribution that a level predicts its next input with. size: V symbols, or D channels."""

    size: int
    kind: ClassVar[str]
    rules: ClassVar[tuple[str, ...]]  # of gates, that fit

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError("there must be at least one symbol or channel")

    @property
    def is_symbols(self) -> bool:
        return isinstance(self, Categorical)

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Width of a prediction."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Numbers in an input."""

    @abstractmethod
    def empty(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Zeros: inputs of the given shape, symbols as int64."""

    @abstractmethod
    def bits(self, prediction: Tensor, inputs: Tensor) -> Tensor:
        """Surprise of inputs (...) or (..., D) under predictions (..., V) or (..., 2 D), in bits: (...)."""

    @abstractmethod
    def entropy_bits(self, prediction: Tensor) -> Tensor:
        """The surprise that a prediction itself expects, in bits: (...)."""

    @abstractmethod
    def measure(self, gate: GateRule, prediction: Tensor, inputs: Tensor) -> Tensor:
        """What the gate compares with its threshold: bits, an error, or (argmax) 1 for a miss: (...)."""

    @abstractmethod
    def best(self, prediction: Tensor) -> Tensor:
        """The input that a prediction stands for: the most probable symbol (...), or the means (..., D)."""

    def check_gate(self, gate: GateRule) -> None:
        """Raise UsageError if the gate's rule does not fit the kind of the inputs."""
        if gate.rule not in self.rules:
            fitting = ", ".join(self.rules)
            raise UsageError(f"the gate rule {gate.rule} does not fit {self.kind}; choose one of {fitting}")

    def to_json(self) -> dict[str, Any]:
        """For `observation_from_json`."""
        return {"kind": self.kind, "size": self.size}


@dataclass(frozen=True)
class Categorical(Observation):
    """One of V symbols, with the probabilities softmax(logits)."""

    kind: ClassVar[str] = "symbols"
    rules: ClassVar[tuple[str, ...]] = ("argmax", "surprise", "rate")

    @property
    def outputs(self) -> int:
        return self.size

    @property
    def channels(self) -> int:
        return 1

    def empty(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64)

    def bits(self, prediction: Tensor, inputs: Tensor) -> Tensor:
        return surprise_bits(prediction, inputs)

    def entropy_bits(self, prediction: Tensor) -> Tensor:
        logs = torch.log_softmax(prediction, -1)
        return -(logs.exp() * logs).sum(-1) / NATS_PER_BIT

    def measure(self, gate: GateRule, prediction: Tensor, inputs: Tensor) -> Tensor:
        if gate.rule == "argmax":
            return (prediction.argmax(-1) != inputs).to(prediction.dtype)
        return self.bits(prediction, inputs)

    def best(self, prediction: Tensor) -> Tensor:
        return prediction.argmax(-1)


@dataclass(frozen=True)
class Gaussian(Observation):
    """D independent normal distributions.

    quantum: the resolution, in standard deviations, at which the density becomes bits; also the smallest
    scale that a level may predict.
    """

    quantum: float = 2.0**-6
    kind: ClassVar[str] = "vectors"
    rules: ClassVar[tuple[str, ...]] = ("tolerance", "surprise", "rate")

    @property
    def outputs(self) -> int:
        return 2 * self.size

    @property
    def channels(self) -> int:
        return self.size

    def empty(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.zeros(*shape, self.size, dtype=dtype)

    def distribution(self, outputs: Tensor, mean: Tensor) -> Tensor:
        """(..., 2 D): outputs (..., 2 D) with `mean` added to their means and their log scales clamped."""
        floor = math.log(self.quantum)
        log_scale = outputs[..., self.size :].clamp(floor, MAX_LOG_SCALE)
        return torch.cat([outputs[..., : self.size] + mean, log_scale], -1)

    def bits(self, prediction: Tensor, inputs: Tensor) -> Tensor:
        mean, log_scale = prediction[..., : self.size], prediction[..., self.size :]
        deviation = (inputs - mean) * torch.exp(-log_scale)
        nats: Tensor = (
            0.5 * deviation * deviation + log_scale + 0.5 * math.log(2 * math.pi) - math.log(self.quantum)
        )
        bits: Tensor = nats.sum(-1) / NATS_PER_BIT
        return bits

    def entropy_bits(self, prediction: Tensor) -> Tensor:
        log_scale = prediction[..., self.size :]
        nats = log_scale + 0.5 * math.log(2 * math.pi * math.e) - math.log(self.quantum)
        return nats.sum(-1) / NATS_PER_BIT

    def error(self, prediction: Tensor, inputs: Tensor) -> Tensor:
        """The largest distance of a channel from its predicted mean, in standard deviations: (...)."""
        return (inputs - prediction[..., : self.size]).abs().amax(-1)

    def measure(self, gate: GateRule, prediction: Tensor, inputs: Tensor) -> Tensor:
        if gate.rule == "surprise":
            return self.bits(prediction, inputs)
        return self.error(prediction, inputs)

    def best(self, prediction: Tensor) -> Tensor:
        return prediction[..., : self.size]

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "quantum": self.quantum}


def observation_of(kind: str, size: int, **more: float) -> Observation:
    """The model of a kind of inputs, "symbols" or "vectors". Raises UsageError."""
    models: dict[str, type[Observation]] = {"symbols": Categorical, "vectors": Gaussian}
    if kind not in models:
        raise UsageError(f"inputs of kind {kind!r} are not known; choose symbols or vectors")
    return models[kind](size, **more)


def observation_from_json(fields: Mapping[str, Any]) -> Observation:
    """The inverse of `Observation.to_json`."""
    more = {"quantum": float(fields["quantum"])} if "quantum" in fields else {}
    return observation_of(str(fields["kind"]), int(fields["size"]), **more)


def surprise_bits(logits: Tensor, symbols: Tensor) -> Tensor:
    """-log2 p(symbol), shape of `symbols` (...); logits (..., V)."""
    flat = torch.nn.functional.cross_entropy(
        at_least_float32(logits.reshape(-1, logits.shape[-1])), symbols.reshape(-1), reduction="none"
    )
    return flat.view(symbols.shape) / NATS_PER_BIT


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor, widened if it is of fewer than 32 bits."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
