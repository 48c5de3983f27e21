"""Calls in threads: in order, ahead of their turn, and with a way out."""

from __future__ import annotations

import signal
import sys
import threading

import pytest
from conftest import join_all
from stand_in import until_stopped

from chunker.codec import executor
from chunker.codec.pool import Pool
from chunker.core.backend import Progress, Stop, Stopped
from chunker.errors import CorruptArchive, UsageError


def squared(item: int, stop: Stop, progress: Progress) -> int:
    progress.value = 10
    return item * item


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_results_come_in_order(threads, count):
    told: list[int] = []
    squares = Pool(squared, threads, lambda n_bytes, at: told.append(n_bytes))
    assert list(squares.imap(range(count))) == [item * item for item in range(count)]
    assert list(squares.imap([9])) == [81], "it can be used again"
    assert sum(told) == 10 * (count + 1)
    assert all(each > 0 for each in told)
    join_all()


@pytest.mark.parametrize("threads", [1, 3])
def test_items_are_taken_as_far_ahead_as_threads_need(threads):
    taken: list[int] = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = Pool(squared, threads).imap(items())
    assert next(results) == 0
    assert len(taken) == 2 * threads + 1


def test_put_gives_back_what_makes_room():
    squares = Pool(squared, 2)
    assert [squares.put(item) for item in range(6)] == [[], [], [], [], [0], [1]]
    assert len(squares) == 4
    assert list(squares.drain()) == [4, 9, 16, 25]
    assert len(squares) == 0


def test_several_threads_work_at_a_time():
    both = threading.Barrier(2, timeout=60)

    def meet(item: int, stop: Stop, progress: Progress) -> int:
        return both.wait()

    assert set(Pool(meet, 2).imap(range(2))) == {0, 1}


def test_one_thread_is_not_the_callers():
    def where(item: int, stop: Stop, progress: Progress) -> threading.Thread:
        return threading.current_thread()

    assert threading.main_thread() not in Pool(where, 1).imap([1, 2])


def test_what_a_call_raises_comes_in_its_turn():
    def broken(item: int, stop: Stop, progress: Progress) -> int:
        if item == 3:
            raise MemoryError
        return item

    results = Pool(broken, 2).imap(range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(MemoryError):
        next(results)


def test_an_archive_that_ends_in_damage_is_read_up_to_there():
    def items():
        yield from (1, 2, 3)
        raise CorruptArchive("the rest is damaged")

    results = Pool(squared, 4).imap(items())
    assert [next(results) for _ in range(3)] == [1, 4, 9]
    with pytest.raises(CorruptArchive, match="the rest"):
        next(results)


@pytest.mark.parametrize("threads", [1, 3])
def test_close_stops_what_runs_and_forgets_what_waits(threads):
    begun: list[int] = []

    def endless(item: int, stop: Stop, progress: Progress) -> None:
        begun.append(item)
        until_stopped(stop)

    waiting = Pool(endless, threads)
    for item in range(2 * threads):
        waiting.put(item)
    waiting.close()
    waiting.close()
    join_all()
    assert len(begun) <= threads
    with pytest.raises(Stopped):
        list(waiting.drain())


@pytest.mark.skipif(sys.platform == "win32", reason="no pthread_kill")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_the_wait(threads):
    def interrupt(item: int, stop: Stop, progress: Progress) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        until_stopped(stop)

    waiting = Pool(interrupt, threads)
    with pytest.raises(KeyboardInterrupt):
        list(waiting.imap([1]))
    waiting.close()
    join_all()


def test_progress_is_told_while_a_call_runs():
    told: list[tuple[int, int]] = []
    seen = threading.Event()

    def half(item: int, stop: Stop, progress: Progress) -> int:
        progress.value = 50
        if not seen.wait(timeout=60):
            raise AssertionError("nobody looked")
        progress.value = 100
        return item

    def advance(n_bytes: int, at: int) -> None:
        told.append((n_bytes, at))
        seen.set()

    assert list(Pool(half, 1, advance, size=lambda item: 100).imap([7, 8])) == [7, 8]
    assert sorted(told, key=lambda each: each[1])[:2] == [(50, 0), (50, 50)]
    assert sum(n_bytes for n_bytes, at in told if at >= 100) == 100


@pytest.mark.parametrize("threads", [-1, -8])
def test_threads_cannot_be_negative(threads):
    with pytest.raises(UsageError, match="workers=-"):
        Pool(squared, threads)


def test_workers_default_to_the_cores():
    assert executor.worker_count(None) == executor.worker_count(0) == executor.core_count() >= 1
    assert executor.worker_count(3) == 3
