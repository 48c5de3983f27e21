"""Where blocks are coded: in threads of this process, or by whatever else has `submit`.

`Threads` is the executor of a caller that names none. Any other is taken as it is: pools of threads and
processes of `concurrent.futures`, loky and mpi4py, or a `distributed.Client`. What it is asked to call can be
pickled, so that it may do so elsewhere.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from chunker.core.backend import Stopped
from chunker.errors import UsageError


class Future(Protocol):
    """A call under way, as of concurrent.futures."""

    def result(self) -> Any:
        """What the call returned, once it has; raises what it raised."""

    def cancel(self) -> Any:
        """Do not begin the call, if that can still be helped."""

    def add_done_callback(self, function: Callable[[Any], Any], /) -> Any:
        """Call `function`, in any thread, when the call has ended or was cancelled."""


class Executor(Protocol):
    """What makes calls, side by side and elsewhere."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Have `function(*arguments)` called; returns a `Future`."""


def core_count() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_count(workers: int | None) -> int:
    """`workers`, or one for each core if it is None or 0. Raises UsageError."""
    if workers is None:
        return core_count()
    if not isinstance(workers, int) or workers < 0:
        raise UsageError(
            f"workers={workers!r} is no number of threads: give 1 or more, or 0 for one per core"
        )
    return workers or core_count()


def require_executor(executor: Any) -> None:
    """Raise UsageError unless it has `submit`, or is None."""
    if executor is not None and not hasattr(executor, "submit"):
        raise UsageError(
            f"executor={executor!r} has no submit: give a pool of concurrent.futures or a distributed.Client"
        )


def calls_at_a_time(executor: Any) -> int:
    """How many calls an executor makes side by side, as far as it tells; else the cores of this machine."""
    if hasattr(executor, "nthreads"):  # a distributed.Client, whose workers come and go
        return max(int(sum(executor.nthreads().values())), 1)
    told = getattr(executor, "_max_workers", None)  # of concurrent.futures, loky, mpi4py
    return told if isinstance(told, int) and told > 0 else core_count()


class Call:
    """The Future of `Threads`. That of concurrent.futures would do, but its import takes longer than many a
    file."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._make: Callable[[], Any] | None = lambda: function(*arguments)
        self._lock = threading.Lock()
        self._begun = False
        self._done: list[Callable[[Any], Any]] | None = []  # to be told; None once they were
        self._value: Any = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Make the call, unless it was cancelled; for the thread."""
        with self._lock:
            begun, self._begun = self._begun, True
        if begun or self._make is None:
            return
        try:
            self._value = self._make()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            self._error = error
        self._finish()

    def cancel(self) -> bool:
        """Whether the call is not made: `result` then raises Stopped."""
        with self._lock:
            begun, self._begun = self._begun, True
        if begun:
            return False
        self._error = Stopped()
        self._finish()
        return True

    def result(self) -> Any:
        """What the call that has ended returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def add_done_callback(self, function: Callable[[Any], Any], /) -> None:
        """As of Future."""
        with self._lock:
            if self._done is not None:
                self._done.append(function)
                return
        function(self)

    def _finish(self) -> None:
        self._make = None  # and with it the arguments, which may be large
        with self._lock:
            done, self._done = self._done or [], None
        for function in done:
            function(self)


class Threads:
    """Up to `workers` threads, which begin when there is something to do and end when there is nothing.

    The core and lzma release the interpreter while they work, so plain threads are enough. Even one worker is
    a thread of its own: the caller only waits, and Ctrl-C ends the wait at once.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._to_do: deque[Call] = deque()
        self._at_work = 0

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Call:
        """As of Executor. Raises MemoryError: there is none for a thread."""
        call = Call(function, arguments)
        with self._lock:
            self._to_do.append(call)
            idle = self._at_work < self._workers
            self._at_work += idle
        if idle:
            self._start_thread()
        return call

    def _start_thread(self) -> None:
        """One more; where the system has none left, those that there are must do. Raises MemoryError."""
        try:
            threading.Thread(target=self._work, name="chunker", daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._at_work -= 1
                alone = self._at_work == 0
            if alone:
                raise MemoryError from None

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._to_do:
                    self._at_work -= 1
                    return
                call = self._to_do.popleft()
            call.make()
            del call  # or its value would stay until the next one comes
