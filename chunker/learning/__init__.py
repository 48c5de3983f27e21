"""Training: float stacks and everything around them. Needs torch, which the extra `[train]` installs.

    >>> from chunker.learning import Stack, distill, train        # imports torch
    >>> stack = train("texts/", levels=(128, 384), minutes=30)    # doctest: +SKIP
    >>> stack.save("mine.safetensors")                            # doctest: +SKIP

Importing this package alone loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chunker import extras

if TYPE_CHECKING:
    from chunker.learning.api import distill, train
    from chunker.learning.config import DistillConfig, TrainConfig, WokenConfig
    from chunker.learning.growing import GrowConfig, grow
    from chunker.learning.meter import LogPoint
    from chunker.learning.stack import Stack, Surprise

_HOMES = {
    "DistillConfig": "chunker.learning.config",
    "GrowConfig": "chunker.learning.growing",
    "LogPoint": "chunker.learning.meter",
    "Stack": "chunker.learning.stack",
    "Surprise": "chunker.learning.stack",
    "TrainConfig": "chunker.learning.config",
    "WokenConfig": "chunker.learning.config",
    "distill": "chunker.learning.api",
    "grow": "chunker.learning.growing",
    "train": "chunker.learning.api",
}

__all__ = [
    "DistillConfig",
    "GrowConfig",
    "LogPoint",
    "Stack",
    "Surprise",
    "TrainConfig",
    "WokenConfig",
    "distill",
    "grow",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'chunker.learning' has no attribute {name!r}")
    extras.require("train", "training")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
