"""Nets trained end to end: they learn what is easy, say when they have not, and read what they should."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from chunker.data import Adding, Lag, Lag20, TemporalOrder
from chunker.errors import UsageError
from chunker.experiments.baselines import CELLS, Net, Outcome, _batch, _Streams, train_baseline
from chunker.experiments.limits import NOTE, TASKS, run
from chunker.experiments.results import Row


def train(net="rnn", task=None, **changed) -> Outcome:
    settings = {"max_sequences": 8000, "max_seconds": 30.0, "seed": 0, **changed}
    return train_baseline(net, task or Lag(3), **settings)[1]


@pytest.mark.parametrize("cut", [None, 6])
@pytest.mark.parametrize("net", CELLS)
def test_a_short_lag_is_learnt(net, cut):
    solved, sequences, seconds = train(net, gradient_cut=cut)
    assert solved
    assert 0 < sequences <= 8000 + 16
    assert seconds > 0


def test_a_gradient_cut_before_the_lag_leaves_it_unlearnt():
    assert not train("rnn", Lag(12), gradient_cut=2, max_sequences=800).solved


@pytest.mark.parametrize("net", CELLS)
def test_a_tiny_budget_ends_in_failure(net):
    assert not train(net, Lag20(), max_sequences=20).solved
    assert train(net, Lag20(), max_sequences=20).sequences == 20
    assert train(net, Lag(200), max_seconds=1e-6).sequences == 16


def test_the_seed_decides():
    first, second, other = (train(max_sequences=3000, seed=seed)[:2] for seed in (0, 0, 1))
    assert first == second
    assert first[0] == other[0]


def test_a_number_is_learnt_as_well():
    solved, sequences, _ = train("lstm-chrono", Adding(12), max_sequences=400)
    assert not solved
    assert sequences == 400


def test_cases_of_different_length_are_filled_up():
    batch = _batch(TemporalOrder(10, 14), 8, np.random.default_rng(0))
    same = np.random.default_rng(0)
    for row in range(8):
        case = TemporalOrder(10, 14).sample(same)
        n = len(case.symbols)
        assert batch.inputs[:n, row].tolist() == case.symbols.tolist()
        assert batch.targets[:, row].nonzero().tolist() == [[n - 1]]  # the class, after the last symbol
        assert int(batch.wanted[n - 1, row]) == 8 + (case.label or 0)
        assert int(batch.counted[:, row].sum()) == n


def test_streams_are_unbroken():
    streams = _Streams(Lag(3), 2, np.random.default_rng(0), steps=5, warm=1)
    batches = [streams.next()[0] for _ in range(4)]
    inputs = torch.cat([batch.inputs for batch in batches])
    assert inputs[::4, 0].tolist() == inputs[3::4, 0].tolist()  # first and last symbol of each case of four
    assert torch.equal(torch.cat([batch.wanted for batch in batches])[:-1], inputs[1:])
    targets = torch.cat([batch.targets for batch in batches])
    assert targets[:, 0].nonzero().flatten().tolist() == [6, 10, 14, 18]  # not the first case's, at 2
    assert streams.begun == 10


def test_chrono_biases_reach_as_far_as_a_sequence():
    torch.manual_seed(0)
    net = Net("lstm", 2, 2, width=1000, chrono=100)
    kept = net.bias[1000:2000].exp()
    assert 1 <= float(kept.min().detach()) < 5
    assert 90 < float(kept.max().detach()) <= 99.001
    assert torch.equal(net.bias[:1000], -net.bias[1000:2000])


@pytest.mark.parametrize(
    "wrong",
    [{"net": "gru"}, {"max_sequences": 0}, {"gradient_cut": 0}, {"task": Adding(12), "gradient_cut": 4}],
)
def test_what_cannot_be_used_is_refused(wrong):
    with pytest.raises(UsageError):
        train(**wrong)


def test_the_limits_are_reported():
    seen: list[Row] = []
    rows = run(1, 0.01, seen.append, nets=("rnn", "lstm"))
    assert rows == seen
    assert [row.more["task"] for row in rows] == [name for name in TASKS for _ in range(2)]
    assert not any(row.solved for row in rows)


def test_adding_is_not_for_the_history_compressor():
    (row,) = run(1, 0.01, lambda row: None, ("adding",), ("history-compressor",))
    assert row == Row("history-compressor", 0, False, 0, 0.0, {"task": "adding", "note": NOTE}, asked=False)
    assert row.outcome == "not run"
    with pytest.raises(UsageError):
        run(1, 0.01, lambda row: None, ("subtracting",))
