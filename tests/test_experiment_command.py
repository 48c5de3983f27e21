"""chunker experiment as a user meets it: rows, summaries, JSON, refusals. The experiments are made small."""

from __future__ import annotations

import json

import pytest
from cli_support import call, one_line

torch = pytest.importorskip("torch")

from chunker.cli.main import chunker
from chunker.data import Lag, MarkovChain
from chunker.experiments import entropy, first_symbol, lags
from chunker.experiments.registry import EXPERIMENTS


@pytest.fixture
def small(monkeypatch):
    """Task 2a with a lag of 6 and few sequences, whatever lag is asked for."""
    torch.set_num_threads(1)
    tiny = lags.LagExperiment(Lag(6), counts=(96,), tests=32, max_seconds=20)
    monkeypatch.setattr(lags, "task_2a", lambda lag: tiny)


def test_rows_and_summary(small):
    out = call(chunker, "experiment", "2a", "--seeds", "2", "--net", "history-compressor").stdout
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == [f"seed {i}  history-compressor" for i in (0, 1)]
    assert lines[-1].split()[0] == "history-compressor"
    assert lines[-1].split()[2] == "2"


def test_json_is_a_list_with_a_row_for_each_net_and_seed(small):
    nets = ["history-compressor", "lstm", "rnn"]
    chosen = [word for net in nets for word in ("--net", net)]
    rows = json.loads(call(chunker, "experiment", "2a", "--seconds", "1", "--json", *chosen).stdout)
    assert [row["net"] for row in rows] == nets
    for row in rows:
        assert {"net", "seed", "solved", "sequences", "seconds"} <= set(row)
        assert isinstance(row["solved"], bool)
        assert 0 < row["sequences"] <= 96 + 16


def test_the_list_names_every_experiment_with_what_was_published():
    out = call(chunker, "experiment", "--list").stdout
    for name, experiment in EXPERIMENTS.items():
        assert f"\n{name}\n" in "\n" + out
        assert experiment.published in out
    rows = json.loads(call(chunker, "experiment", "--list", "--json").stdout)
    assert [row["name"] for row in rows] == list(EXPERIMENTS)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ((), "which one?"),
        (("nothing",), "choose one of"),
        (("automaton", "--lag", "5"), "no --lag"),
        (("2a", "--lag", "1"), "at least 3"),
        (("2a", "--net", "gru"), "is not one of"),
    ],
)
def test_mistakes_are_one_line(words, remedy):
    result = call(chunker, "experiment", *words, code=1)
    assert remedy in one_line(result.stderr.encode())


def test_a_plot_is_drawn_or_its_extra_named(small, tmp_path):
    target = tmp_path / "rows.png"
    words = ("2a", "--seconds", "1", "--net", "rnn", "--plot", str(target))
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert "[plot]" in one_line(call(chunker, "experiment", *words, code=1).stderr.encode())
    else:
        call(chunker, "experiment", *words)
        assert target.stat().st_size > 1000


def test_a_net_that_was_not_run_has_not_failed():
    out = call(chunker, "experiment", "adding", "--net", "history-compressor").stdout
    assert out.startswith("seed 0  history-compressor: not run")
    assert "failed" not in out


def test_the_summary_of_archives_tells_how_near_they_are(monkeypatch):
    sources = {"coin": MarkovChain(symbols=2, order=1, seed=1)}
    monkeypatch.setattr(entropy, "sources", lambda: sources)
    out = call(chunker, "experiment", "entropy", "--net", "xz").stdout
    row, _, names, summary = out.splitlines()
    assert row.startswith("seed 0  xz: to compare with")
    assert names.split()[-1] == "entropy"
    assert summary.startswith("xz coin")
    assert float(summary.split()[-2]) > 1


def test_a_class_that_the_first_symbol_decides(monkeypatch):
    pytest.importorskip("sklearn")
    plan = first_symbol.Plan(cases=60, tests=20, steps=100, head_steps=100, seconds=0.5)
    monkeypatch.setattr(first_symbol, "Plan", lambda seconds: plan)
    rows = json.loads(call(chunker, "experiment", "first-symbol", "--lag", "40", "--json").stdout)
    assert [row["net"] for row in rows] == list(EXPERIMENTS["first-symbol"].nets)
    assert rows[0]["solved"]
    assert rows[0]["accuracy"] == 1
    assert rows[0]["event_share"] < 0.5
    assert not rows[-1]["solved"]


def test_ppmd_alone_names_what_it_needs(monkeypatch):
    monkeypatch.setattr(entropy, "find_spec", lambda name: None)
    result = call(chunker, "experiment", "entropy", "--net", "ppmd", code=1)
    assert "pip install pyppmd" in one_line(result.stderr.encode())
