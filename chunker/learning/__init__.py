"""Training: the float stack and everything around it. Needs torch, which the extra `[train]` installs.

    corpus.py -> trainer.py <- stack.py <- level.py <- recurrence.py
                    |              ^--- gate.py
    checkpoint.py, evaluate.py

Importing this package loads no torch; `require_torch` says in one line what to do if it is missing.
"""

from __future__ import annotations

from importlib.util import find_spec

from chunker.errors import MissingExtra


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
