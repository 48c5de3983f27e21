"""The classifier for aeon, under aeon's own checks."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("aeon")

from aeon.testing.estimator_checking import check_estimator

from chunker.classification import RandomKernelHead, RecurrentHead
from chunker.classification.aeon import HistoryTimeSeriesClassifier

pytestmark = pytest.mark.filterwarnings("default")  # aeon and numba warn of their own affairs


def test_aeons_own_checks():
    results = check_estimator(HistoryTimeSeriesClassifier, raise_exceptions=True)
    assert len(results) >= 20
    assert set(results.values()) == {"PASSED"}


def test_unequal_lengths_and_several_channels():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 40)
    cases = [
        np.stack([np.sin(np.arange(n) * (c + 1) / 2), random.normal(size=n) / 5])
        for c, n in zip(labels, random.integers(12, 30, 40), strict=True)
    ]
    heads = [RecurrentHead(steps=120), RandomKernelHead(kernels=300)]
    model = HistoryTimeSeriesClassifier((8,), steps=20, heads=heads, random_state=0)
    model.fit(cases[:30], labels[:30].astype(str))
    assert model.score(cases[30:], labels[30:].astype(str)) >= 0.8
