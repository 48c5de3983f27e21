"""Chooses the core of this process: the compiled library, or the reference in Python."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from chunker.core.interface import (
    GATE_ALWAYS,
    MISFIT,
    SAMPLES,
    Backend,
    Contexts,
    Progress,
    Session,
    Settings,
    Stop,
    Stopped,
    Trace,
    asleep_bytes,
    check_stack,
    primed_capacity,
)
from chunker.errors import UsageError

__all__ = [
    "GATE_ALWAYS",
    "MISFIT",
    "SAMPLES",
    "Backend",
    "Contexts",
    "Progress",
    "Session",
    "Settings",
    "Stop",
    "Stopped",
    "Trace",
    "asleep_bytes",
    "backend",
    "check_stack",
    "primed_capacity",
]

VARIABLE = "CHUNKER_BACKEND"


@functools.cache
def backend() -> Backend:
    """The core of this process: the one that CHUNKER_BACKEND names ("native": the best compiled one), else
    the best that is there. The first call chooses it.

    Raises
    ------
    UsageError: what CHUNKER_BACKEND names cannot be had here.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "python":
        return _python()
    compiled = _compiled()
    for found in compiled:
        if wanted in ("", "native", found.name):
            return found
    if not wanted:
        return _python()
    known = ", ".join(["native"] * bool(compiled) + [found.name for found in compiled] + ["python"])
    raise UsageError(f"{VARIABLE}={wanted} cannot be had here: choose one of {known}, or unset it")


def _compiled() -> Sequence[Backend]:
    """The variants of the compiled library that this processor can run, the best first;
    none without library."""
    from chunker.core.native import load

    return load()


def _python() -> Backend:
    from chunker.core.reference import PythonBackend

    return PythonBackend()
