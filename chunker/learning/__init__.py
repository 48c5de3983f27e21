"""Training: float stacks and everything around them. Needs torch, which the extra `[train]` installs.

    >>> from chunker.learning import Stack, distill, train        # imports torch
    >>> stack = train("texts/", levels=(128, 384), minutes=30)    # doctest: +SKIP
    >>> stack.save("mine.safetensors")                            # doctest: +SKIP

Importing this package alone loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from chunker.errors import MissingExtra

if TYPE_CHECKING:
    from chunker.learning.config import TrainConfig
    from chunker.learning.distillation import DistillConfig
    from chunker.learning.growing import GrowConfig, grow
    from chunker.learning.meter import LogPoint
    from chunker.learning.run import distill, train
    from chunker.learning.stack import Stack, Surprise

_HOMES = {
    "DistillConfig": "chunker.learning.distillation",
    "GrowConfig": "chunker.learning.growing",
    "LogPoint": "chunker.learning.meter",
    "Stack": "chunker.learning.stack",
    "Surprise": "chunker.learning.stack",
    "TrainConfig": "chunker.learning.config",
    "distill": "chunker.learning.run",
    "grow": "chunker.learning.growing",
    "train": "chunker.learning.run",
}

__all__ = [
    "DistillConfig",
    "GrowConfig",
    "LogPoint",
    "Stack",
    "Surprise",
    "TrainConfig",
    "distill",
    "grow",
    "has_torch",
    "require_torch",
    "train",
]


def has_torch() -> bool:
    """Whether torch is installed, without importing it."""
    return find_spec("torch") is not None


def require_torch() -> None:
    """Say in one line what to install if torch is missing.

    Raises
    ------
    MissingExtra: torch is not installed.
    """
    if not has_torch():
        raise MissingExtra.of("this needs torch", "train")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'chunker.learning' has no attribute {name!r}")
    require_torch()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
