"""A history stack as the memory of a policy, for any algorithm that runs gymnasium's environments.

    symbols.py          observations as symbols
    memory.py           a stack that reads, and learns from, the episodes of a batch of environments
    wrappers.py         HistoryMemory, VectorHistoryMemory, VectorReturnSoFar, ActOnEvents
    mazes.py            T-mazes: chunker/PassiveTMaze-v0, chunker/ActiveTMaze-v0
    policy_gradient.py  a policy gradient, proximal policy optimisation over whole episodes

Needs torch and gymnasium (extra `[rl]`). Importing this package registers the mazes, if gymnasium is there,
and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from chunker import extras

if TYPE_CHECKING:
    from chunker.reinforcement.memory import MemoryConfig
    from chunker.reinforcement.policy_gradient import GradientConfig, Policy, train_policy
    from chunker.reinforcement.wrappers import (
        ActOnEvents,
        HistoryMemory,
        VectorHistoryMemory,
        VectorReturnSoFar,
    )

_HOMES = {
    "ActOnEvents": "chunker.reinforcement.wrappers",
    "GradientConfig": "chunker.reinforcement.policy_gradient",
    "HistoryMemory": "chunker.reinforcement.wrappers",
    "MemoryConfig": "chunker.reinforcement.memory",
    "Policy": "chunker.reinforcement.policy_gradient",
    "VectorHistoryMemory": "chunker.reinforcement.wrappers",
    "VectorReturnSoFar": "chunker.reinforcement.wrappers",
    "train_policy": "chunker.reinforcement.policy_gradient",
}

__all__ = [
    "ActOnEvents",
    "GradientConfig",
    "HistoryMemory",
    "MemoryConfig",
    "Policy",
    "VectorHistoryMemory",
    "VectorReturnSoFar",
    "train_policy",
]
MAZES = {"chunker/PassiveTMaze-v0": False, "chunker/ActiveTMaze-v0": True}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'chunker.reinforcement' has no attribute {name!r}")
    extras.require("rl", "a memory for a policy")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register() -> None:
    from gymnasium.envs.registration import register, registry

    for name, active in MAZES.items():
        if name not in registry:
            register(
                name,
                entry_point="chunker.reinforcement.mazes:TMaze",
                vector_entry_point="chunker.reinforcement.mazes:TMazes",
                kwargs={"active": active},
            )


if find_spec("gymnasium") is not None:
    _register()
