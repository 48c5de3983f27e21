"""How far back gradients reach: of plain nets by finite differences, of a stack in its own ticks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from cli_support import call

torch = pytest.importorskip("torch")

from test_lags import SMALL
from torch import nn

from chunker import extras
from chunker.cli.main import chunker
from chunker.data import Lag, stream
from chunker.experiments import gradients, lags
from chunker.experiments.baselines import new_net
from chunker.learning.recurrence import recur

LAG = 12


@pytest.fixture
def small(monkeypatch, one_thread):
    """Task 2a with a lag of 12 and few sequences, whatever lag is asked for."""
    tiny = replace(SMALL, max_seconds=300)
    assert tiny.task == Lag(LAG)
    monkeypatch.setattr(lags, "task_2a", lambda lag: tiny)


@pytest.mark.parametrize("name", ["rnn", "lstm", "lstm-chrono"])
def test_norms_are_those_of_finite_differences(monkeypatch, name):
    """Of one sequence: the output's change as one pre-activation after the other moves a little."""
    monkeypatch.setattr(gradients, "SEQUENCES", 1)
    torch.manual_seed(0)
    net, task = new_net(name, Lag(LAG), LAG, width=5), Lag(LAG)
    found = gradients.net_norms(net, task, np.random.default_rng(3))
    symbols = torch.from_numpy(stream(task, 1, np.random.default_rng(3)).symbols).unsqueeze(1)
    net = net.double()
    a = (nn.functional.embedding(symbols[:-1], net.input) + net.bias).detach()

    def output(a):
        hs, _ = recur(net.cell, a, *net.start(1), net.recurrent, None)
        return float(net.read(hs[-1])[0, symbols[-1, 0]].detach())

    assert len(found) == len(a) == LAG
    for k in (1, 2, LAG):
        squares = 0.0
        for unit in range(a.shape[-1]):
            moved = a.clone()
            moved[-k, 0, unit] += 1e-6
            squares += ((output(moved) - output(a)) / 1e-6) ** 2
        assert float(found[k - 1]) == pytest.approx(squares**0.5, rel=1e-3)


def test_the_top_level_is_few_ticks_from_the_cause(small):
    stack, row, _ = lags.grow_stack(lags.task_2a(LAG), 0)
    assert row.solved
    found = gradients.top_level_norms(stack, Lag(LAG), LAG, np.random.default_rng(0))
    assert len(found) < LAG / 2
    assert found[-1][0] == pytest.approx(LAG, abs=1)
    assert found[-1][1] > 0.01


def test_steps():
    assert gradients.steps_of(3) == [1, 2, 3]
    steps = gradients.steps_of(1000)
    assert (steps[0], steps[-1], len(steps) <= gradients.POINTS) == (1, 1000, True)


def test_rows_and_picture(small, tmp_path):
    words = ["experiment", "gradients", "--lag", str(LAG), "--seconds", "1", "--json"]
    if extras.has("plot"):
        words += ["--plot", str(tmp_path / "norms.svg")]
    rows = json.loads(call(chunker, *words).stdout)
    assert [row["net"] for row in rows] == ["history-compressor", "rnn", "lstm", "lstm-chrono"]
    for row in rows[1:]:
        assert row["steps"] == gradients.steps_of(LAG)
        assert len(row["norms"]) == len(row["untrained"]) == len(row["steps"])
    assert "ticks" in rows[0]
    assert (tmp_path / "norms.svg").exists() == extras.has("plot")
