"""How to train and to distill: budget, schedule, sizes, what is learnt, precision, device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsIndex

from chunker.core.interface import GATE_ALWAYS, Contexts, Settings
from chunker.errors import UsageError

if TYPE_CHECKING:
    import torch

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "linear": lambda x: 1 - x,
    "constant": lambda x: 1.0,
}
WOKEN_CONTEXTS = tuple(contexts.name.lower() for contexts in Contexts)
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainConfig:
    """How to train a stack. Exactly one of `minutes` and `bytes` is the budget.

    Attributes
    ----------
    minutes: budget of wall time, validation included; the schedule follows the clock.
    bytes: budget of bytes read, summed over all streams; the schedule follows them.
    batch, window: B streams and T bytes each per step.
    piece: mean bytes between two cold starts of a stream; 0: never.
    learning_rate: its peak. It rises linearly over the share `warmup` of the budget and then falls to 0 by
        the `schedule`: "cosine", "linear", or not at all with "constant".
    weight_decay: of AdamW. clip: largest norm of the gradient.
    average: the weights are averaged exponentially over about this many steps, and the average is what is
        validated and saved; 0: the weights themselves.
    ngram_dropout: probability, at each byte, of dropping all n-gram orders from a random one upwards.
    validation: share at the end of every file that is not trained on but validated on.
    validation_bytes: how much of it is scored.
    validations: how many times the budget is interrupted to validate. patience: stop after so many
        validations in a row without improvement; 0: never.
    seed: of everything random.
    precision: "auto", "float32" or "bfloat16", see `wants_bfloat16`.

    Raises
    ------
    UsageError: a value out of range.
    """

    minutes: float | None = 30.0
    bytes: int | None = None
    batch: int = 128
    window: int = 128
    piece: int = 8192
    learning_rate: float = 2e-3
    warmup: float = 0.02
    schedule: str = "cosine"
    weight_decay: float = 0.0
    clip: float = 1.0
    average: int = 0
    ngram_dropout: float = 0.0
    validation: float = 0.05
    validation_bytes: int = 1 << 18
    validations: int = 20
    patience: int = 6
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.bytes is None):
            raise UsageError("give the budget either in minutes or in bytes")
        if not 0 < self.budget < math.inf:
            raise UsageError("minutes and bytes, the budget, must be above 0 and finite")
        if self.batch < 1 or self.window < 1 or self.piece < 0:
            raise UsageError("batch and window must be at least 1, piece at least 0")
        if not 0 < self.learning_rate < math.inf or not self.clip > 0 or not self.weight_decay >= 0:
            raise UsageError("learning rate and clip must be above 0, weight decay at least 0")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"schedule {self.schedule!r} is not known; choose one of {', '.join(SCHEDULES)}")
        if not 0 <= self.warmup < 1:
            raise UsageError("warmup is a share of the budget from 0 to below 1")
        if not 0 <= self.ngram_dropout <= 1:
            raise UsageError("n-gram dropout is a probability from 0 to 1")
        if not 0 <= self.validation <= 1 or self.validation_bytes < 1:
            raise UsageError("validation is a share of every file from 0 to 1, validation_bytes at least 1")
        if self.average < 0 or self.patience < 0 or self.validations < 1 or self.seed < 0:
            raise UsageError("average, patience and seed must be at least 0, validations at least 1")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r} is not known; choose auto, float32 or bfloat16")

    @property
    def budget(self) -> float:
        """The budget, in bytes or in seconds."""
        if self.bytes is not None:
            return float(self.bytes)
        return 60 * (self.minutes or 0.0)

    def learning_rate_at(self, share: float) -> float:
        """The learning rate when the share 0 <= share <= 1 of a level's budget is used."""
        if share < self.warmup:
            return self.learning_rate * max(
                share / self.warmup, 0.01
            )  # not 0: the first step would be wasted
        after = min((share - self.warmup) / (1 - self.warmup), 1.0)
        return self.learning_rate * SCHEDULES[self.schedule](after)


@dataclass(frozen=True)
class WokenConfig:
    """How a stack is woken while it is trained; archives made with it should wake it alike.

    contexts: which contexts level 0 has: "few", "many" or "all". gate: level 1 wakes at the first bit of a
    byte of which |ln(p / (1 - p))| is below gate / 256.

    Raises
    ------
    UsageError: a value out of range.
    """

    contexts: str = "many"
    gate: int = 600

    def __post_init__(self) -> None:
        if self.contexts not in WOKEN_CONTEXTS:
            raise UsageError(
                f"contexts {self.contexts!r} are not known; choose one of {', '.join(WOKEN_CONTEXTS)}"
            )
        if not 1 <= self.gate <= GATE_ALWAYS:
            raise UsageError(f"a gate of {self.gate} is out of range; choose one from 1 to {GATE_ALWAYS}")

    @property
    def settings(self) -> Settings:
        """As the core takes them."""
        return Settings(Contexts[self.contexts.upper()], self.gate)


@dataclass(frozen=True)
class DistillConfig:
    """What a student is trained on; each weight multiplies a mean over symbols.

    Attributes
    ----------
    own_weight: of the student's own next input (cross-entropy, nats).
    state_weight: of the mean squared error of the teacher's normalised state, predicted linearly from the
        student's.
    output_weight: of T^2 KL(teacher || student) (nats), both distributions softened by T.
    temperature: T; 1 leaves the distributions as they are.
    ramp: share of the budget over which the last two weights rise linearly from 0.

    Raises
    ------
    UsageError: a value out of range.
    """

    own_weight: float = 1.0
    state_weight: float = 0.1
    output_weight: float = 1.0
    temperature: float = 1.0
    ramp: float = 0.05

    def __post_init__(self) -> None:
        check_weights(self.own_weight, self.state_weight, self.output_weight)
        if not 0 < self.temperature < math.inf:
            raise UsageError("the temperature must be above 0")
        if not 0 <= self.ramp <= 1:
            raise UsageError("the ramp is a share of the budget from 0 to 1")

    @property
    def taught(self) -> bool:
        """Whether there is anything to learn from the teacher."""
        return self.state_weight > 0 or self.output_weight > 0


def check_count(name: str, value: object, least: int) -> None:
    """Raise UsageError unless a parameter is a whole number of at least so much."""
    if not isinstance(value, SupportsIndex) or isinstance(value, bool) or value.__index__() < least:
        raise UsageError(f"{name} must be a whole number, {least} or more, not {value!r}; correct it")


def check_weights(*weights: float) -> None:
    """Of what a student learns. Raises UsageError."""
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise UsageError("the weights of what is learnt must be at least 0, and one of them above")


def wants_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether products are computed in bfloat16; "auto" does where the machine has instructions for it."""
    import torch

    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch names these probes with an underscore; without them float32 is the safe choice.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in probes)


def choose_device(name: torch.device | str) -> torch.device:
    """The torch device of that name; "auto" is a GPU if there is one.

    Raises
    ------
    UsageError: there is no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device {str(name)!r} is not available here; use --device auto") from error
    return device
