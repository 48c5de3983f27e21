"""Blocks on several cores, in order, with a way out.

Callers only submit and wait. A thread may in turn wait for another process: see processes.py.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

from chunker.errors import UsageError

Stop = Callable[[], bool]


class Stopped(Exception):
    """Raised within a call because `stop()` became true."""


def never() -> bool:
    """The `stop` of a caller that never stops."""
    return False


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Result(Protocol[T_co]):
    """What `submit` returns."""

    def result(self) -> T_co:
        """Wait for the value, or raise what the function raised."""


class _Later(Generic[T]):
    """A call that is made when its result is asked for: a pool of one, without a thread."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call

    def result(self) -> T:
        return self._call()


def core_count() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count(threads: int | None) -> int:
    """`threads`, or one for each core if it is None or 0. Raises UsageError."""
    if threads is not None and threads < 0:
        raise UsageError(f"{threads} threads are too few: give 1 or more, or 0 for one per core")
    return threads or core_count()


class Pool:
    """Runs functions that take a last argument `stop`; up to `threads` of them at a time.

    With one thread nothing runs in the background: a call is made when its result is wanted, in the caller.
    `close` makes `stop()` true for what is running, forgets what is waiting and does not wait itself.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = thread_count(threads)
        self._stop = threading.Event()
        self._executor: ThreadPoolExecutor | None = None

    @property
    def depth(self) -> int:
        """How many calls to keep submitted so that no thread runs dry while the oldest one is waited for."""
        return 1 if self.threads == 1 else 2 * self.threads

    def submit(self, function: Callable[..., T], *args: Any) -> Result[T]:
        """Arrange `function(*args, stop)`."""
        if self.threads == 1:
            return _Later(lambda: function(*args, self._stop.is_set))
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="chunker")
        future: Future[T] = self._executor.submit(function, *args, self._stop.is_set)
        return future

    def close(self) -> None:
        """Stop everything; may be called more than once, also while an exception passes."""
        self._stop.set()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    def drop(self) -> None:
        """Stop everything, wait until nothing runs, and be ready for other calls."""
        executor = self._executor
        self.close()
        if executor is not None:
            executor.shutdown()
        self._stop = threading.Event()
