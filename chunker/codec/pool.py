"""An ordered map over an executor: calls run ahead, results come in order, and the caller can stop them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar, cast

from chunker.codec.executor import (
    Executor,
    Future,
    Threads,
    calls_at_a_time,
    require_executor,
    worker_count,
)
from chunker.core.backend import Progress, Stop, Stopped
from chunker.errors import ArchiveError, ChunkerError, ExecutorError
from chunker.forking import Birthplace
from chunker.version import __version__

POLL_SECONDS = 0.05  # between two looks at how far the blocks are

Advance = Callable[[int, int], None]
"""Called with how many more bytes of content are coded, and where these begin, again and again."""

Item = TypeVar("Item")
T = TypeVar("T")


def ignore(n_bytes: int, at: int) -> None:
    """The `advance` of a caller that does not want to know."""


def call(
    function: Callable[[Item, Stop, Progress], T], item: Item, stop: Stop, progress: Progress, version: str
) -> tuple[T, int]:
    """What the function returns, and how many bytes of content it did. This is what an executor calls.

    Raises
    ------
    What the function raises. ExecutorError: here is another version than `version`.
    """
    if version != __version__:
        raise ExecutorError(f"a worker has chunker {__version__}, not {version}: install the same everywhere")
    value = function(item, stop, progress)
    return value, progress.value


class _Pending:
    """An item that is under way. begin: of its content; told: bytes of it that `advance` was called with."""

    def __init__(self, future: Future, progress: Progress, begin: int) -> None:
        self.future, self.progress, self.begin, self.told = future, progress, begin, 0
        self._done = threading.Event()
        future.add_done_callback(lambda _: self._done.set())

    def wait(self, seconds: float) -> bool:
        """Whether it is done, after so long at most."""
        return self._done.wait(seconds)


class Pool(Generic[Item, T]):
    """Has an executor call `function(item, stop, progress)` for one item after the other, and hands out the
    results in order. Up to twice as many items are under way as the executor works on at a time, so that it
    never idles, and no more are held.

    size: bytes of content of an item, for `advance` to tell where it is at work.
    The function sets `progress.value` to the bytes of content that are done, and raises Stopped soon after
    `stop` is set. Elsewhere than in this process it has copies of both: nobody sees how far it is, and what
    was begun is finished.

    executor: None for threads of the pool's own, which end when nothing is left to do, so that a pool needs
    no end of its own. workers: how many of these, or on how many items an executor works at a time; None: one
    for each core, or as many as the executor says from item to item.

    Raises
    ------
    UsageError.
    """

    def __init__(
        self,
        function: Callable[[Item, Stop, Progress], T],
        workers: int | None = None,
        advance: Advance = ignore,
        executor: Executor | None = None,
        size: Callable[[Item], int] = lambda item: 0,
    ) -> None:
        require_executor(executor)
        count = worker_count(workers)
        self._workers = count if executor is None or workers else None
        self._foreign = executor is not None
        self._executor = Threads(count) if executor is None else executor
        self._function, self._advance, self._size = function, advance, size
        self.made = Birthplace()
        self._stop = Stop()
        self._waiting: deque[_Pending] = deque()  # for their turn to be handed out
        self._end = 0  # of the content of all items so far

    @property
    def workers(self) -> int:
        """How many items are worked on at a time."""
        return self._workers or calls_at_a_time(self._executor)

    def __len__(self) -> int:
        """How many results are still to be handed out."""
        return len(self._waiting)

    def put(self, item: Item) -> list[T]:
        """Take in an item; the results that had to be waited for to make room for it, mostly one or none.

        Raises
        ------
        What the function raises, in its turn. UsageError: the pool is another process's. MemoryError: there
        is none for a thread. ExecutorError: the executor fails.
        """
        self.made.require()
        out = []
        for _ in range(len(self._waiting) + 1 - 2 * self.workers):
            out.append(self._take())
        progress = Progress()
        with self._failures_told():
            future = self._executor.submit(call, self._function, item, self._stop, progress, __version__)
        self._waiting.append(_Pending(future, progress, self._end))
        self._end += self._size(item)
        return out

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
            return  # whoever held a lock when the process forked is not here to release it
        self._stop.set()
        for pending in self._waiting:
            pending.future.cancel()

    def _take(self) -> T:
        self.made.require()
        first = self._waiting[0]
        while not first.wait(POLL_SECONDS):
            for pending in self._waiting:
                self._tell(pending, pending.progress.value)
        self._waiting.popleft()
        with self._failures_told():
            result, n_bytes = cast("tuple[T, int]", first.future.result())
        self._tell(first, n_bytes)
        return result

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        """What an executor meets besides the function's own errors becomes one line."""
        try:
            yield
        except (ChunkerError, Stopped, MemoryError):
            raise
        except Exception as error:
            if not self._foreign:
                raise
            if self._stop.is_set():  # it was cancelled
                raise Stopped from error
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ExecutorError(
                f"the executor failed ({reason}): look after its workers, and try again"
            ) from error

    def _tell(self, pending: _Pending, done: int) -> None:
        """done: bytes of the item."""
        if done > pending.told:
            self._advance(done - pending.told, pending.begin + pending.told)
            pending.told = done
