"""The experiment "entropy": archives come near the entropy and give the sample back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from chunker.data import MarkovChain
from chunker.experiments import entropy
from chunker.experiments.entropy import Settings, run, sources
from chunker.experiments.results import Row

TINY = Settings(
    width=12, bytes=120_000, batch=32, window=8, piece=512, learning_rate=3e-2, average=50, test=40_000
)
CHAIN = MarkovChain(symbols=2, order=1, seed=1)


@pytest.fixture(scope="module")
def rows():
    seen: list[Row] = []
    found = run(1, None, seen.append, TINY, {"tiny": CHAIN})
    assert seen == found
    return {row.net: row for row in found}


def test_a_tiny_source_is_coded_to_near_its_entropy(rows):
    row = rows["history-compressor"]
    assert row.more["exact"]
    assert row.more["percent"] < 5
    assert row.more["bits_per_symbol"] == pytest.approx(8 * row.more["bytes"] / TINY.test, abs=1e-6)
    assert TINY.bytes <= row.sequences < TINY.bytes + TINY.batch * TINY.window


def test_the_ideal_is_that_of_the_very_sample(rows):
    sample = CHAIN.sample(TINY.test, np.random.default_rng([0, 1]))
    ideal = CHAIN.ideal_bits(sample) / TINY.test
    for row in rows.values():
        bits = row.more["bits_per_symbol"]
        assert row.more["ideal_bits_per_symbol"] == pytest.approx(ideal, abs=1e-6)
        assert row.more["percent"] == pytest.approx(100 * (bits / ideal - 1), abs=1e-2)
        assert row.more["rate_percent"] == pytest.approx(100 * (bits / CHAIN.entropy_bits - 1), abs=1e-2)
        assert row.solved == (row.more["percent"] <= 1)


def test_peers_need_no_training(rows):
    assert rows["xz"].sequences == 0
    assert rows["xz"].more["exact"]
    assert rows["xz"].more["percent"] > rows["history-compressor"].more["percent"]


def test_an_archive_that_does_not_give_the_sample_back_solves_nothing(monkeypatch):
    monkeypatch.setattr(entropy, "decompress", lambda archive, model: b"something else")
    monkeypatch.setattr(entropy, "ALLOWED_PERCENT", 1000.0)
    short = replace(TINY, bytes=1000, test=2000)
    row, *_ = run(1, None, lambda row: None, short, {"tiny": CHAIN})
    assert not row.more["exact"]
    assert not row.solved


def test_seconds_are_a_budget_too():
    row, *_ = run(1, 0.05, lambda row: None, replace(TINY, test=2000), {"tiny": CHAIN})
    assert row.seconds < 5
    assert row.sequences > 0


def test_rows_are_json(rows):
    for row in rows.values():
        assert json.loads(json.dumps(row.to_json()))["source"] == "tiny"


def test_the_sources_are_those_of_the_text():
    found = sources()
    assert list(found) == ["markov-1", "markov-2", "markov-3", "hidden-markov", "reber"]
    for source in found.values():
        sample = source.sample(20_000, np.random.default_rng(0))
        assert source.ideal_bits(sample) / len(sample) == pytest.approx(source.entropy_bits, rel=0.05)
