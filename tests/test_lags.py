"""The experiments with long lags: a small one is solved, and what a reader skips it would have read alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from test_levels import integer_stack

from chunker.config import GateRule, StackConfig
from chunker.data import Lag
from chunker.experiments import streaming
from chunker.experiments.lags import LagExperiment, history_compressor, run, target_probabilities
from chunker.learning.growing import GrowConfig
from chunker.learning.stack import Stack

SMALL = LagExperiment(
    Lag(12),
    counts=(80, 160),
    tests=64,
    growth=GrowConfig(
        width=16, gate=GateRule("surprise", 0.2), lanes=8, check_every=25, upper_patience=6, max_steps=400
    ),
)


# ---- lags -------------------------------------------------------------------------------------------


def test_a_small_lag_is_solved():
    row, reports = history_compressor(SMALL, 0)
    assert row.solved
    assert row.net == "history-compressor"
    assert row.sequences in SMALL.counts
    assert row.more["levels"] == sum(report.kept for report in reports) >= 2
    assert row.more["least"] > 0.75
    assert row.more["right"] == 1
    # a case's first symbol and its last go up, of 13
    assert row.more["rates"][0] == 1
    assert 1 / 13 < row.more["rates"][1] < 3 / 13


def test_one_level_does_not_solve_it():
    (row,) = run(replace(SMALL, counts=(80,)), 1, lambda row: None, ("history-compressor, 1 levels",))
    assert row.net == "history-compressor, 1 levels"
    assert not row.solved
    assert row.sequences == 80
    assert row.more["levels"] == 1
    assert row.more["least"] < 0.75


def test_every_target_but_the_first_of_each_row_is_asked():
    torch.manual_seed(0)
    task = Lag(5)
    stack = Stack(StackConfig(levels=(6,), mode="faithful", symbols=task.symbols))
    found = target_probabilities(stack, task, count=40, seed=1, rows=4)
    assert found.shape == (40,)
    assert ((found > 0) & (found < 1)).all()
    assert torch.equal(found, target_probabilities(stack, task, count=40, seed=1, rows=4))


# ---- reading in rounds ------------------------------------------------------------------------------


def integers_of_a_net(seed, width=8):
    torch.manual_seed(seed)
    config = StackConfig(levels=(width,), cell="rnn", mode="faithful", symbols=6, gate=GateRule("argmax"))
    stack = Stack(config)
    with torch.no_grad():
        stack.level(0).readout.mul_(20)  # or hardly any symbol would be expected for sure
        stack.level(0).recurrent.mul_(0.5)
    return stack.integer_stack()


def expected_stream(integers, length, rows, seed, surprise=0):
    """(length, rows) symbols, each the one that is expected, but for the first of each row and some in
    random rows, one in every `surprise` on average."""
    rng, session = np.random.default_rng(seed), integers.session(rows)
    chunks = []
    for t in range(length):
        came = session.expected(0).copy()
        if t == 0:
            came = rng.integers(0, integers.symbols, rows)
        elif surprise and rng.integers(surprise) == 0:
            row = int(rng.integers(rows))
            came[row] = (came[row] + 1) % integers.symbols
        session.read(came)
        chunks.append(came)
    return np.stack(chunks)


def read(integers, chunks, limit_bits, rounds):
    reader = streaming.Reader(integers, chunks[0].shape[1], limit_bits, rounds)
    for chunk in chunks:
        reader.read(chunk)
    return reader


def both(integers, chunks, limit_bits=16.0):
    """Read with rounds and without; both must find the same."""
    quick, slow = (read(integers, chunks, limit_bits, rounds) for rounds in (True, False))
    length = sum(len(chunk) for chunk in chunks)
    assert quick.left == slow.left
    whole = np.concatenate(chunks)
    for rounds in (True, False):
        writer = streaming.Writer(integers, quick.left, rounds)
        back = [writer.write(count) for count in (1, 0, len(whole) // 2, len(whole) - len(whole) // 2 - 1)]
        assert np.array_equal(np.concatenate(back), whole)
    assert quick.time == slow.time == slow.steps == length
    return quick, slow


@pytest.mark.parametrize("size", [1, 7, 100, 2000])
@pytest.mark.parametrize("seed", range(3))
def test_rounds_leave_what_reading_all_leaves(seed, size):
    integers = integers_of_a_net(seed)
    symbols = expected_stream(integers, 2000, 3, seed, surprise=400)
    quick, slow = both(integers, np.split(symbols, range(size, len(symbols), size)))
    assert 3 < sum(len(left.times) for left in slow.left) < 50
    if size >= 100:  # a round longer than a chunk is not skipped
        assert quick.steps < slow.steps / 2


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_rounds_are_found_in_all_that_a_cell_remembers(cell):
    integers = integer_stack(levels=(6,), cell=cell, mode="faithful", gate=GateRule("argmax"), symbols=6)
    symbols = expected_stream(integers, 1500, 2, 0, surprise=500)
    both(integers, [symbols[:700], symbols[700:]])


def test_a_round_ends_where_the_inputs_go_another_way():
    """Steps without a surprise before the stream is disturbed are skipped; the disturbance is not."""
    integers = integers_of_a_net(0)
    symbols = expected_stream(integers, 1000, 2, 0)
    for at in range(900, 906):
        disturbed = symbols.copy()
        disturbed[at, 1] = (disturbed[at, 1] + 1) % 6
        quick, slow = both(integers, [disturbed])
        assert quick.left[1].times[:2] == [0, at]
        assert quick.steps < slow.steps


def test_what_is_kept_are_the_symbols_at_their_times():
    integers = integers_of_a_net(1)
    symbols = expected_stream(integers, 500, 2, 0, surprise=50)
    quick, _ = both(integers, [symbols])
    for row, left in enumerate(quick.left):
        assert left.times[0] == 0
        assert left.symbols == symbols[left.times, row].tolist()
    everything, _ = both(integers, [symbols], limit_bits=0.0)
    assert sum(len(left.times) for left in everything.left) > sum(len(left.times) for left in quick.left)


# ---- streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [Lag(30), Lag(30, period=7), Lag(200, period=20), Lag(1), Lag(6)], ids=str)
def test_the_parts_of_a_case_are_the_case(task):
    for key in (0, 1):
        rng = np.random.default_rng(0)
        end = task.length + 1
        whole = task.part(key, 0, end, rng)
        assert whole[0] == whole[-1] == key
        assert (whole[1:-1] >= 2).all()
        for size in (1, 3, end):
            parts = [task.part(key, a, min(a + size, end), rng) for a in range(0, end, size)]
            assert np.concatenate(parts).tolist() == whole.tolist()


@pytest.mark.parametrize("length", [9, 29, 100, 1000])
def test_the_rows_are_cuts_of_unbroken_streams(length, monkeypatch):
    monkeypatch.setattr(streaming, "ROWS", 5)
    task = Lag(length, period=min(20, length - 1))
    streams = streaming._Streams(task, np.random.default_rng(length))
    whole = streams.part(0, streams.length)
    assert whole.shape == (streams.length, 5)
    for row in range(5):
        rng = np.random.default_rng(0)
        unbroken = np.concatenate([task.part(key, 0, length + 1, rng) for key in streams.keys[row].tolist()])
        lead = int(streams.leads[row])
        assert 40 <= lead < 80
        first = streams.before * (length + 1) - lead
        assert whole[:, row].tolist() == unbroken[first : first + streams.length].tolist()
        asked = streams.keys[row, streams.before]
        assert whole[lead, row] == whole[lead + length, row] == asked
    parts = [streams.part(a, min(a + 37, streams.length)) for a in range(0, streams.length, 37)]
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_a_lag_is_learnt_from_what_is_left(monkeypatch):
    monkeypatch.setattr(streaming, "ROWS", 48)
    monkeypatch.setattr(streaming, "TRAINED", 32)
    monkeypatch.setattr(streaming, "LOWER", replace(streaming.LOWER, lanes=32, check_every=25))
    monkeypatch.setattr(streaming, "UPPER", replace(streaming.UPPER, check_every=25))
    row = streaming.streaming_lag(2000, 0)
    assert row.solved
    assert row.more["exact"]
    assert row.more["inputs_of_level_1"] < 20
    assert row.more["symbols"] == 48 * (80 + 2001 + 8)
    assert row.more["steps"] < 1000
