"""Blocks coded by whatever has `submit`: the same bytes, in order, in bounded memory."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from small_blocks import cut_small
from stand_in import mixed

import chunker
from chunker.codec.executor import calls_at_a_time
from chunker.codec.pool import Pool, call
from chunker.core.backend import Progress, Stop, Stopped
from chunker.errors import CorruptArchive, ExecutorError, UsageError
from chunker.models import Model

DATA = mixed(9_000)


class Late(Executor):
    """Makes a call when its result is asked for, or when told to; counts what is under way."""

    def __init__(self, workers: int) -> None:
        self._max_workers = workers
        self.waiting: list[tuple[Future, tuple]] = []
        self.most = 0

    def submit(self, function, /, *arguments, **named):
        future: Future = Future()
        self.waiting.append((future, (function, *arguments)))
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) == 2 * self._max_workers:
            self.make(backwards=True)
        return future

    def make(self, *, backwards: bool = False) -> None:
        for future, (function, *arguments) in self.waiting[:: -1 if backwards else 1]:
            future.set_result(function(*arguments))
        self.waiting.clear()


def short(item: int, stop: Stop, progress: Progress) -> int:
    progress.value = item
    return item


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_threads_of_another_pool_make_the_same_archive(small_blocks, stand_in):
    archive = chunker.compress(DATA, "fast")
    with ThreadPoolExecutor(3) as pool:
        assert chunker.compress(DATA, "fast", executor=pool) == archive
        assert chunker.decompress(archive, executor=pool) == DATA


def test_processes_make_the_same_archive(monkeypatch, processes, tiny_model):
    """With contexts alone, with a model that each of them loads from its file, and with one in no file."""
    cut_small(monkeypatch, compared_with_lzma=False)
    unsaved = Model("unsaved", Path("unsaved"), tiny_model.config, {}, tiny_model.raw_tensors)
    for data in (DATA[:4_000], b"short", b""):
        archive = chunker.compress(data, "fast")
        assert chunker.compress(data, "fast", executor=processes) == archive
        assert chunker.decompress(archive, executor=processes) == data
        archive = chunker.compress(data, model=tiny_model)
        for model in (tiny_model, unsaved):
            assert chunker.compress(data, model=model, executor=processes) == archive
            assert chunker.decompress(archive, model=model, executor=processes) == data


def test_a_file_object_uses_the_executor(small_blocks, stand_in, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        with chunker.open(tmp_path / "a.nhc", "wb", "fast", executor=pool) as file:
            file.write(DATA)
        calls = stand_in.calls
        with chunker.open(tmp_path / "a.nhc", executor=pool) as file:
            file.seek(5_000)
            assert file.read(100) == DATA[5_000:5_100]
    assert calls > 0
    pool.shutdown()
    with pytest.raises(ExecutorError, match="the executor failed"):
        chunker.open(tmp_path / "a.nhc", executor=pool).read()


def test_results_come_in_order_and_no_more_are_held_than_twice_the_workers():
    late, told = Late(2), list[int]()
    pool = Pool(short, None, lambda n_bytes, at: told.append(n_bytes), late)
    assert [*pool.imap(range(8))] == [*range(8)]
    assert late.most == 4
    assert sum(told) == sum(range(8))
    assert calls_at_a_time(late) == 2


def test_workers_bound_what_is_under_way():
    late = Late(100)
    pool = Pool(short, 1, executor=late)
    assert pool.put(1) == pool.put(2) == []
    late.make()
    assert pool.put(3) == [1]


def test_close_cancels_what_was_not_begun():
    late = Late(2)
    pool = Pool(short, executor=late)
    pool.put(1)
    pool.close()
    assert late.waiting[0][0].cancelled()
    with pytest.raises(Stopped):
        [*pool.drain()]


def test_what_a_call_raises_stays_and_what_the_executor_raises_becomes_a_line():
    def failing(error):
        def fail(item: int, stop: Stop, progress: Progress) -> int:
            raise error

        with ThreadPoolExecutor(1) as pool:
            return [*Pool(fail, executor=pool).imap([1])]

    with pytest.raises(CorruptArchive, match="as it was"):
        failing(CorruptArchive("as it was"))
    with pytest.raises(ExecutorError, match=r"RuntimeError: lost two\)") as caught:
        failing(RuntimeError("lost\ntwo"))
    assert "\n" not in str(caught.value)


def test_a_worker_of_another_version_refuses():
    with pytest.raises(ExecutorError, match=r"not 0\.0: install the same"):
        call(short, 1, Stop(), Progress(), "0.0")


@pytest.mark.parametrize(
    "what", [lambda e: chunker.compress(b"x", executor=e), lambda e: chunker.open("x", executor=e)]
)
def test_what_has_no_submit_is_refused(what):
    with pytest.raises(UsageError, match="has no submit"):
        what(print)
