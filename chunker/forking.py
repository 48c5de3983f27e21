"""What happens to the codec where a process forks, as servers and `multiprocessing` do.

The child has one thread. A lock that another thread holds at that moment, on a module that it is importing,
say, would be held in the child for ever. So imports of the codec that are under way are waited for before a
fork. What was begun before and needs its threads, or a position in a file, is refused in the child
(`Birthplace`).
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from chunker.errors import UsageError

_CODING = ("codec.stream", "codec.files", "codec.lempelziv", "core.native", "core.reference", "models")

_forks = 0  # between the program's first process and this one


class Birthplace:
    """The process in which an object was made."""

    def __init__(self) -> None:
        self._forks = _forks

    @property
    def here(self) -> bool:
        """Whether it is this process."""
        return self._forks == _forks

    def require(self) -> None:
        """Raise UsageError in another process."""
        if not self.here:
            raise UsageError("this was made before the process forked: make or open a new one in the child")


def _finish_imports() -> None:
    if "chunker.codec" in sys.modules:
        for name in _CODING:
            import_module(f"chunker.{name}")


def _count() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_finish_imports, after_in_child=_count)
