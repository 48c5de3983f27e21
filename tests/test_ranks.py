"""Several processes that train one stack: they compute what one computes, and any number goes on with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cli_support import environment

pytest.importorskip("torch")

import numpy as np
import torch

from chunker.config import StackConfig, Wake
from chunker.core.interface import Contexts, Settings
from chunker.errors import CorpusError, UsageError
from chunker.learning.config import TrainConfig
from chunker.learning.corpus import Source, Streams, TextFile, validation_lanes
from chunker.learning.foretold import foretell
from chunker.learning.ranks import ALONE, FailedElsewhere, LostRank, Ranks
from chunker.learning.stack import Stack
from chunker.learning.trainer import Trainer
from chunker.learning.woken_trainer import WokenStreams, WokenTrainer

TEXT = (b"What was predicted carries no information. " * 60) + bytes(range(256)) * 4
CONFIG = TrainConfig(
    minutes=None, bytes=8 * 5 * 12, batch=5, window=8, piece=64, validations=2, precision="float32", seed=3
)


class Meeting:
    """Where threads that stand for ranks leave their tensors, and take those of all."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=60)
        self.left: list[torch.Tensor] = [torch.empty(0)] * count


class ThreadRanks(Ranks):
    """Ranks that are threads of this process. ends_at: the exchange at which this one ends."""

    def __init__(self, rank: int, meeting: Meeting, ends_at: int | None = None) -> None:
        super().__init__(rank, len(meeting.left))
        self._meeting, self._exchanges, self._ends_at = meeting, 0, ends_at

    def sum_(self, tensor):
        if not self.lost:
            everything = self._exchange(tensor)
            tensor.copy_(sum(everything[1:], everything[0].clone()))
        return tensor

    def follow_first(self, tensors):
        for tensor in tensors:
            if not self.lost:
                tensor.copy_(self._exchange(tensor)[0])

    def _exchange(self, tensor):
        self._exchanges += 1
        if self._exchanges == self._ends_at:
            self._meeting.barrier.abort()
            raise SystemExit
        try:
            self._meeting.left[self.rank] = tensor.clone()
            self._meeting.barrier.wait()
            everything = list(self._meeting.left)
            self._meeting.barrier.wait()
        except threading.BrokenBarrierError:
            self.lost = True
            raise LostRank("another process of this training has ended") from None
        return everything


def plain(ranks: Ranks, config: TrainConfig = CONFIG) -> Trainer:
    text = np.frombuffer(TEXT, dtype=np.uint8)
    source = Source("text", [TextFile("text", len(text), Path(), text)], 1.0, 0.2)
    streams = Streams([source], config.batch, config.window, config.piece, config.seed)
    torch.manual_seed(config.seed)
    stack = Stack(StackConfig(levels=(8,)))
    return Trainer(stack, streams, config, validation_lanes([source], [], 300, lane=50), ranks=ranks)


@pytest.fixture(scope="module")
def woken(tmp_path_factory):
    text = np.frombuffer(TEXT, dtype=np.uint8)
    source = Source("text", [TextFile("text", len(text), Path(), text)], 1.0, 0.2)
    folder = tmp_path_factory.mktemp("foretold")
    parts = [("text", source.training), ("end", source.validation)]
    found, held_out = foretell(parts, folder, Settings(Contexts.FEW, 4095))

    def make(ranks: Ranks, config: TrainConfig = CONFIG) -> Trainer:
        torch.manual_seed(config.seed)
        stack = Stack(StackConfig(levels=(8,), wake=Wake(slept=True, guess=True)))
        streams = WokenStreams([source], [found], [stack], config, 4095)
        return WokenTrainer(stack, streams, config, [(held_out, 1.0)], ranks=ranks)

    return make


@pytest.fixture(params=["plain", "woken"])
def make(request, woken, one_thread):
    return plain if request.param == "plain" else woken


def together(make, count: int, steps: int | None = None, saved=None) -> list[Trainer]:
    """So many ranks: to the end of the budget or for so many steps; from a snapshot or from the beginning."""
    meeting = Meeting(count)
    trainers = [make(ThreadRanks(rank, meeting)) for rank in range(count)]
    if saved is not None:
        for trainer in trainers:  # one after the other: torch has one generator for all threads
            trainer.restore({name: tensor.clone() for name, tensor in saved[0].items()}, saved[1])

    def run(trainer: Trainer):
        trainer.run(stop=lambda: trainer.steps == steps)
        return trainer

    with ThreadPoolExecutor(count) as threads:
        return [*threads.map(run, trainers)]


def snapshots(trainers: list[Trainer]):
    with ThreadPoolExecutor(len(trainers)) as threads:
        return [*threads.map(lambda trainer: trainer.snapshot(), trainers)]


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in trainer.trained])


@pytest.mark.parametrize("count", [2, 3])
def test_several_compute_what_one_computes(make, count):
    """Up to the rounding of sums: weights, validation and log; among themselves exactly."""
    points: list = []
    one = make(ALONE)
    one.run(points.append)
    several = together(make, count)
    for rank in several:
        assert rank.bytes == one.bytes
        assert rank.finished
        torch.testing.assert_close(weights(rank), weights(one), rtol=1e-3, atol=1e-5)
        assert torch.equal(weights(rank), weights(several[0]))
        assert rank.best_bits == pytest.approx(one.best_bits, rel=1e-4)
        assert rank.best_figures["bits_per_byte"] == pytest.approx(
            one.best_figures["bits_per_byte"], rel=1e-4
        )


def test_the_same_number_goes_on_with_the_same_bits(make):
    through = together(make, 2)
    saved = snapshots(together(make, 2, steps=4))[0]
    resumed = together(make, 2, saved=saved)
    assert torch.equal(weights(resumed[1]), weights(through[0]))
    assert resumed[0].best_bits == through[0].best_bits


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 3)])
def test_another_number_goes_on_from_the_same_place(make, before, after):
    """Its streams read on where they were, with their states."""
    through = together(make, before)[0]
    saved = snapshots(together(make, before, steps=4))[0]
    resumed = together(make, after, saved=saved)[-1]
    torch.testing.assert_close(weights(resumed), weights(through), rtol=1e-3, atol=1e-5)
    assert resumed.streams.position() == through.streams.position()


def test_what_one_process_saves_is_what_several_save(make):
    (one, facts), (several, same) = (snapshots(together(make, count, steps=3))[0] for count in (1, 2))
    assert several.keys() - one.keys() == {"random/cpu.1"}
    assert facts["position"] == same["position"]
    for name in one:
        if name.startswith("state/"):
            torch.testing.assert_close(several[name], one[name], rtol=1e-3, atol=1e-4)


def test_a_lost_rank_leaves_a_checkpoint_to_the_others(make):
    """The rows that it had start cold; all else is as it was."""
    meeting = Meeting(2)
    left, lost = make(ThreadRanks(0, meeting)), make(ThreadRanks(1, meeting, ends_at=30))
    with ThreadPoolExecutor(2) as threads:
        ended = [threads.submit(rank.run) for rank in (left, lost)]
    with pytest.raises(LostRank):
        ended[0].result()
    assert left.steps > 0
    resumed = make(ALONE)
    resumed.restore(*left.snapshot())
    cold = resumed._cold().state_dict()
    for name, state in resumed.state.state_dict().items():
        dim = 1 if name == "pending" else 0
        mine, others = (state.narrow(dim, *part) for part in ((0, 2), (2, 3)))
        assert torch.equal(mine, left.state.state_dict()[name])
        assert torch.equal(others, cold[name].narrow(dim, 2, 3))
    resumed.run()
    assert resumed.finished


def test_rows_are_shared_out_evenly():
    for count in (1, 2, 3, 5):
        rows = [Ranks(rank, count).rows(5) for rank in range(count)]
        assert [row for part in rows for row in range(5)[part]] == [*range(5)]
    with pytest.raises(UsageError, match="raise --batch"):
        Ranks(0, 6).rows(5)


def test_what_fails_on_one_before_the_training_fails_on_all_and_is_told_once():
    meeting = Meeting(3)

    def begin(rank: int):
        with ThreadRanks(rank, meeting).together():
            if rank:
                raise CorpusError(f"missing on {rank}")

    with ThreadPoolExecutor(3) as threads:
        ended = [threads.submit(begin, rank) for rank in range(3)]
    assert [type(rank.exception()) for rank in ended] == [FailedElsewhere, CorpusError, FailedElsewhere]


# ---- as torchrun starts them -----------------------------------------------------------------------


def torchrun(folder: Path, *arguments: str, count: int = 2) -> subprocess.Popen[bytes]:
    (folder / "text").write_bytes(TEXT)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
    options = ["--levels", "8", "--batch", "6", "--window", "8", "--device", "cpu", "--log-seconds", "0"]
    words += ["-m", "chunker", "train", "text", "-o", "m.safetensors", *options, *arguments]
    env = environment(OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore")
    return subprocess.Popen(words, cwd=folder, env=env, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--woken", "--wake-contexts", "few"]])
def test_torchrun_trains(tmp_path, more):
    started = torchrun(tmp_path, "--bytes", "3000", *more)
    told = started.communicate(timeout=300)[1].decode()
    assert started.returncode == 0, told
    assert told.count("bits/byte on validation text") == 1
    assert Stack.load(tmp_path / "m.safetensors").config.levels == (8,)
    assert not [*tmp_path.glob("*.checkpoint")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_ends_the_run_with_a_line_and_a_checkpoint(tmp_path, victim):
    # The ranks write their numbers as they start.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif 'RANK' in os.environ: open('pid' + os.environ['RANK'], 'w').write(str(os.getpid()))\n"
    )
    before = environment()["PYTHONPATH"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{before}")
        started = torchrun(tmp_path, "--bytes", "100000000")
    log = tmp_path / "m.safetensors.jsonl"
    if started.stderr is None:
        raise AssertionError
    lines = [started.stderr.readline() for _ in range(2)]  # the second one tells of the first step
    assert b"training" in lines[0]
    os.kill(int((tmp_path / f"pid{victim}").read_text()), signal.SIGKILL)
    told = started.communicate(timeout=300)[1].decode()
    assert started.returncode != 0
    assert told.count("chunker: ") == 1
    assert "another process of this training has ended; checkpoint written after" in told
    assert log.exists()
    resumed = torchrun(tmp_path, "--resume", "--bytes", "100", count=1)
    told = resumed.communicate(timeout=300)[1].decode()
    assert resumed.returncode == 0, told
    assert "resumed after" in told


@pytest.mark.slow
def test_a_mistake_is_told_once(tmp_path):
    started = torchrun(tmp_path, "--minutes", "-1")
    told = started.communicate(timeout=300)[1].decode()
    assert started.returncode != 0
    assert told.count("chunker: ") == 1
