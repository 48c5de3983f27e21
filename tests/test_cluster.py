"""Coding on a cluster of two workers, of which one is lost on the way; and what lies at URLs."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from cli_support import TEXT, call
from conftest import GOLDEN
from small_blocks import cut_small
from stand_in import mixed

import chunker
from chunker.cli.compress import compress
from chunker.cli.decompress import decompress
from chunker.cli.list import list_command
from chunker.cli.main import chunker as group
from chunker.cli.test import test as check
from chunker.errors import ExecutorError

distributed = pytest.importorskip("distributed")

DATA = mixed(30_000)
needs_kill = pytest.mark.skipif(sys.platform == "win32", reason="kills a process")


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as running, distributed.Client(running) as client:
        yield client


@pytest.fixture
def client(cluster):
    """The cluster with both of its workers, also after one was lost."""
    cluster.wait_for_workers(2, timeout=120)
    return cluster


@pytest.fixture
def small(monkeypatch):
    cut_small(monkeypatch, compared_with_lzma=False)


def kill_one(client, lost: list[int]) -> None:
    if not lost:
        pids = client.run(os.getpid)
        lost.append(min(pids.values()))
        os.kill(lost[0], signal.SIGKILL)


@needs_kill
def test_the_same_archive_although_a_worker_is_lost(client, small):
    """The engine gives what it had to the other one."""
    alone, lost = chunker.compress(DATA, "fast"), list[int]()
    compressor = chunker.Compressor(
        "fast", executor=client, advance=lambda n_bytes, at: kill_one(client, lost)
    )
    archive = compressor.compress(DATA) + compressor.flush()
    assert lost
    assert archive == alone
    client.wait_for_workers(2, timeout=120)
    assert lost[0] not in client.run(os.getpid).values()
    assert chunker.decompress(archive, executor=client) == DATA


def test_a_model_is_loaded_where_blocks_are_coded(client, small, tiny_model):
    archive = chunker.compress(DATA[:4_000], model=tiny_model)
    assert chunker.compress(DATA[:4_000], model=tiny_model, executor=client) == archive
    assert chunker.decompress(archive, model=tiny_model, executor=client) == DATA[:4_000]


def test_a_worker_of_another_version_is_told_before_the_work_begins(client):
    def pretend(version: str) -> str:
        import chunker.version

        before, chunker.version.__version__ = chunker.version.__version__, version
        return before

    one = min(client.nthreads())
    before = client.run(pretend, "0.0", workers=[one])[one]
    try:
        with pytest.raises(ExecutorError, match=rf"^worker {one} has chunker 0\.0, not .*: install the same"):
            chunker.Compressor("fast", executor=client)
        with pytest.raises(ExecutorError, match=r"has chunker 0\.0"):
            chunker.Decompressor(executor=client)
    finally:
        client.run(pretend, before, workers=[one])


def test_a_worker_with_another_model_is_told_before_the_work_begins(client, tmp_path):
    """The file was replaced after this process had loaded it."""
    path = tmp_path / "mine.safetensors"
    path.write_bytes((GOLDEN / "ngrams.safetensors").read_bytes())
    model = chunker.load_model(path)
    path.write_bytes((GOLDEN / "tiny.safetensors").read_bytes())
    with pytest.raises(ExecutorError, match=r"has another model .*mine\.safetensors"):
        chunker.Compressor(model=model, executor=client)


# ---- classifiers -----------------------------------------------------------------------------------


@pytest.mark.slow  # the workers load torch
@needs_kill
def test_a_grid_of_classifiers_under_joblib(client, tmp_path):
    """The same scores as in this process, although the first fit to be scored takes its worker with it."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    import numpy as np
    from joblib import parallel_config
    from sklearn.model_selection import GridSearchCV

    from chunker.classification import HistoryClassifier, NgramHead

    def accuracy(model, rows, labels) -> float:
        """That kills its process once."""
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return float(np.mean(model.predict(rows) == labels))
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    marker = str(tmp_path / "killed")
    rows = [[number % 2, *range(1, 2 + number % 3)] for number in range(24)]
    labels = np.array(["ab"[row[0]] for row in rows])
    model = HistoryClassifier((4,), steps=0, heads=[NgramHead(buckets=64)], random_state=0)
    search = GridSearchCV(model, {"heads__0__longest": [1, 2]}, scoring=accuracy, cv=2)
    with parallel_config("dask", client=client):
        search.fit(rows, labels)
    assert os.path.exists(marker)
    elsewhere = search.cv_results_["mean_test_score"]
    assert (search.fit(rows, labels).cv_results_["mean_test_score"] == elsewhere).all()


# ---- commands --------------------------------------------------------------------------------------


@pytest.fixture
def address(client):
    return client.scheduler.address


def test_commands_on_a_cluster(address, small, tmp_path):
    """Several files side by side, their lines in order, a bad one among them."""
    sources = [tmp_path / f"{number}.txt" for number in range(4)]
    for number, path in enumerate(sources):
        path.write_bytes(DATA[: 6_000 - 1_500 * number])
    missing = tmp_path / "missing.txt"
    call(compress, *map(str, sources), "--fast")
    alone = [path.with_name(path.name + ".nhc").read_bytes() for path in sources]
    wanted = [*map(str, sources[:2]), str(missing), *map(str, sources[2:])]
    done = call(compress, *wanted, "--fast", "-f", "--cluster", address, code=1)
    assert [path.with_name(path.name + ".nhc").read_bytes() for path in sources] == alone
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [*map(str, sources)]
    assert "missing.txt" in done.stderr
    archives = [f"{path}.nhc" for path in sources]
    assert call(check, *archives, "--cluster", address).stdout.count(", OK") == 4
    joined = call(decompress, *archives, "-c", "--cluster", address)
    assert joined.stdout_bytes == b"".join(path.read_bytes() for path in sources)


def test_verifying_on_a_cluster(address, small, tmp_path):
    (tmp_path / "a").write_bytes(DATA[:5_000])
    done = call(compress, str(tmp_path / "a"), "--fast", "--rm", "--cluster", address)
    assert "verified" in done.stdout
    assert not (tmp_path / "a").exists()


def test_no_scheduler_is_one_line(monkeypatch, tmp_path):
    from chunker.codec import cluster

    monkeypatch.setattr(cluster, "WAIT_SECONDS", 1)
    (tmp_path / "a").write_bytes(TEXT)
    done = call(group, "compress", str(tmp_path / "a"), "--cluster", "tcp://no.such.host.invalid:1", code=1)
    assert "no scheduler of dask.distributed answers at tcp://no.such.host.invalid:1" in done.stderr
    assert done.stderr.count("\n") == 1


def test_salvage_is_done_here(tmp_path):
    done = call(decompress, "a.nhc", "--salvage", "--cluster", "tcp://x:1", code=2)
    assert "leave --cluster out" in done.stderr


def test_from_a_url_to_another_on_a_cluster(address, small):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe("/cluster/a.txt", DATA)
    call(compress, "memory://cluster/a.txt", "--fast", "--cluster", address)
    assert memory.cat("/cluster/a.txt.nhc") == chunker.compress(DATA, "fast")
    call(list_command, "memory://cluster/a.txt.nhc")
