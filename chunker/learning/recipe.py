"""How to train: budget, schedule, sizes, precision, device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from chunker.errors import UsageError

DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "linear": lambda x: 1 - x,
    "none": lambda x: 1.0,
}
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How to train. Exactly one of `minutes` and `characters` is the budget.

    Attributes
    ----------
    minutes: budget of wall time, validation included; the schedule follows the clock.
    characters: budget of characters read, counted over all streams; the schedule follows them.
    batch, window: B streams and T characters each per step.
    piece: mean characters between two cold starts of a stream; 0: never.
    learning_rate: its highest value. It rises from 0 over the share `warmup` of the budget and then falls
        to 0 by `decay`: "cosine", "linear" or "none".
    weight_decay: of AdamW. clip: largest norm of the gradient.
    average: horizon in steps of a moving average of the weights, which is then what is validated and saved;
        0: the weights themselves.
    ngram_dropout: share of the characters at which level 0 is told nothing from one of its n-grams on.
    validations: how often the budget is interrupted to validate. patience: stop early after so many
        validations in a row without improvement; 0: never.
    precision: "auto", "float32" or "bfloat16", see `wants_bfloat16`.

    Raises
    ------
    UsageError: a value that makes no sense.
    """

    minutes: float | None = 30.0
    characters: int | None = None
    batch: int = 128
    window: int = 128
    piece: int = 8192
    learning_rate: float = 2e-3
    warmup: float = 0.02
    decay: str = "cosine"
    weight_decay: float = 0.0
    clip: float = 1.0
    average: int = 0
    ngram_dropout: float = 0.0
    validations: int = 20
    patience: int = 6
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.characters is None):
            raise UsageError("give the budget either in minutes or in characters")
        if not 0 < self.budget < math.inf:
            raise UsageError("minutes and characters, the budget, must be above 0 and finite")
        if self.batch < 1 or self.window < 1 or self.piece < 0:
            raise UsageError("batch and window must be at least 1, piece at least 0")
        if not 0 < self.learning_rate < math.inf or not self.clip > 0 or not self.weight_decay >= 0:
            raise UsageError("learning rate and clip must be above 0, weight decay at least 0")
        if self.decay not in DECAYS:
            raise UsageError(f"decay {self.decay!r} is not known; choose one of {', '.join(DECAYS)}")
        if not 0 <= self.warmup < 1:
            raise UsageError("warmup is a share of the budget from 0 to below 1")
        if not 0 <= self.ngram_dropout <= 1:
            raise UsageError("n-gram dropout is a share of the characters from 0 to 1")
        if self.average < 0 or self.patience < 0 or self.validations < 1 or self.seed < 0:
            raise UsageError("average, patience and seed must be at least 0, validations at least 1")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r} is not known; choose auto, float32 or bfloat16")

    @property
    def budget(self) -> float:
        """Characters or seconds, whichever counts."""
        if self.characters is not None:
            return float(self.characters)
        return 60 * (self.minutes or 0.0)

    def rate_at(self, share: float) -> float:
        """The learning rate when the share 0 <= share <= 1 of a level's budget is used."""
        if share < self.warmup:
            # Not from 0: the very first step would be lost.
            return self.learning_rate * max(share / self.warmup, 0.01)
        return self.learning_rate * DECAYS[self.decay](min((share - self.warmup) / (1 - self.warmup), 1.0))


def wants_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether products are computed in bfloat16; "auto" does where the machine has instructions for it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch names these probes with an underscore; without them float32 is the safe choice.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in probes)


def choose_device(name: str) -> torch.device:
    """The torch device of that name; "auto" is a GPU if there is one.

    Raises
    ------
    UsageError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device {name!r} is not available here; use --device auto") from error
    return device
