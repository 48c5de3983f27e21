"""An ordered map in threads: calls run ahead, results come in order, and the caller can stop them.

The core and lzma release the interpreter while they work, so plain threads are enough. Even one worker is a
thread of its own: the caller only waits, and Ctrl-C ends the wait at once.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar, cast

from chunker.core.backend import Progress, Stop, Stopped
from chunker.errors import ArchiveError, UsageError
from chunker.forking import Birthplace

POLL_SECONDS = 0.05  # between two looks at how far the blocks are

Advance = Callable[[int], None]
"""Called with how many more bytes of content are coded, again and again."""

Item = TypeVar("Item")
T = TypeVar("T")


def ignore(n_bytes: int) -> None:
    """The `advance` of a caller that does not want to know."""


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


class _Call(Generic[T]):
    """A call that a thread makes, and what became of it."""

    def __init__(self, function: Callable[[Item, Stop, Progress], T], item: Item, stop: Stop) -> None:
        self.progress = Progress()
        self._make: Callable[[], T] | None = lambda: function(item, stop, self.progress)
        self._done = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None

    def make(self) -> None:
        """Make the call; for the thread."""
        try:
            self._value = self._make() if self._make is not None else None
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            self._error = error
        self._finish()

    def abandon(self) -> None:
        """Let whoever waits know that nobody will make it."""
        self._error = Stopped()
        self._finish()

    def _finish(self) -> None:
        self._make = None  # and with it the item, which may be large
        self._done.set()

    def wait(self, seconds: float) -> bool:
        """Whether it is done, after so long at most."""
        return self._done.wait(seconds)

    def result(self) -> T:
        """What a call that is done returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return cast(T, self._value)


class Pool(Generic[Item, T]):
    """Calls `function(item, stop, progress)` for one item after the other in up to `workers` threads, and
    hands out the results in order. Up to twice as many items as workers are under way, so no thread idles.

    The function sets `progress.value` to the bytes of content that are done, and raises Stopped soon after
    `stop` is set. A thread ends when nothing is left to do, so a pool needs no end of its own.
    """

    def __init__(
        self,
        function: Callable[[Item, Stop, Progress], T],
        workers: int | None = None,
        advance: Advance = ignore,
    ) -> None:
        self.workers = worker_count(workers)
        self._function, self._advance = function, advance
        self.made = Birthplace()
        self._stop = Stop()
        self._waiting: deque[_Call[T]] = deque()  # for their turn to be handed out
        self._lock = threading.Lock()
        self._to_do: deque[_Call[T]] = deque()
        self._at_work = 0
        self._passed = 0  # bytes of what was handed out
        self._told = 0

    def __len__(self) -> int:
        """How many results are still to be handed out."""
        return len(self._waiting)

    def put(self, item: Item) -> list[T]:
        """Take in an item; the results that had to be waited for to make room for it, one or none.

        Raises
        ------
        What the function raises, in its turn. UsageError: the pool is another process's. MemoryError: there
        is none for a thread.
        """
        self.made.require()
        out = [self._take()] if len(self._waiting) >= 2 * self.workers else []
        call = _Call(self._function, item, self._stop)
        self._waiting.append(call)
        with self._lock:
            self._to_do.append(call)
            idle = self._at_work < self.workers
            self._at_work += idle
        if idle:
            self._start_thread()
        return out

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

    def drain(self) -> Iterator[T]:
        """The results of all items that are under way. Raises what the function raises, in its turn."""
        while self._waiting:
            yield self._take()

    def imap(self, items: Iterable[Item]) -> Iterator[T]:
        """The results of all items. An ArchiveError from `items` itself is raised after the results of those
        before.

        Close the pool if you leave the iterator early.
        """
        failure: ArchiveError | None = None
        source = iter(items)
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except ArchiveError as error:
                failure = error
                break
            yield from self.put(item)
        yield from self.drain()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Stop what runs and forget what waits, without waiting oneself; may be called more than once."""
        if not self.made.here:
            return  # whoever held the lock when the process forked is not here to release it
        self._stop.set()
        with self._lock:
            while self._to_do:
                self._to_do.popleft().abandon()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._to_do:
                    self._at_work -= 1
                    return
                call = self._to_do.popleft()
            call.make()
            del call  # or its value would stay until the next one comes

    def _take(self) -> T:
        self.made.require()
        call = self._waiting[0]
        while not call.wait(POLL_SECONDS):
            self._tell()
        self._waiting.popleft()
        self._passed += call.progress.value
        result = call.result()
        self._tell()
        return result

    def _tell(self) -> None:
        done = self._passed + sum(call.progress.value for call in self._waiting)
        if done > self._told:
            self._advance(done - self._told)
            self._told = done
