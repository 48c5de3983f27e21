"""Spectra of speech, and the head of 2-D convolutions that reads them: what is beside a row does not show in
it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from chunker.classification import (
    ConvolutionalHead,
    HistoryClassifier,
    RandomKernelHead,
    load_classifier,
    save_classifier,
)
from chunker.classification.convolutions import ConvolutionalNet
from chunker.classification.nets import Reading
from chunker.classification.speech import as_other_speakers, spectra, spectra_of_others, stretch_matrix
from chunker.errors import UsageError
from chunker.learning.history import History
from chunker.learning.observation import Gaussian

torch.set_num_threads(1)


def cepstra(random, count=3):
    return [
        random.standard_normal((n, 13)) * 10 / (1 + np.arange(13)) for n in random.integers(20, 40, count)
    ]


# ---- spectra -----------------------------------------------------------------------------------------


def test_a_spectrum_is_the_cosine_transform_of_cepstra():
    """Energies of 26 bands, their orthonormal cosine transform, and back, with a floor too low to show."""
    energies = np.random.default_rng(0).normal(size=(30, 26))
    scale = np.sqrt(np.append(1.0, np.full(25, 2.0)) / 26)
    transform = scale[:, None] * np.cos(np.pi * np.outer(np.arange(26), np.arange(26) + 0.5) / 26)
    found = spectra([energies @ transform.T], floor=60.0, bands=26)[0]
    assert np.allclose(found, energies - energies.mean(0))


def test_what_is_far_below_the_speech_does_not_show():
    """Silence of minus 40 or 60 nats: the same spectrum above a floor, another one without."""
    speech = np.random.default_rng(0).normal(size=(20, 13))
    silence = np.zeros((10, 13))
    silence[:, 0] = -np.sqrt(26)  # of minus 1 nat
    quiet = [np.concatenate([speech, nats * silence]) for nats in (40, 60)]
    low, lower = spectra(quiet, floor=3.0)
    assert np.allclose(low, lower, atol=1e-6)
    low, lower = spectra(quiet, floor=100.0)
    assert np.abs(low - lower).max() > 1
    assert np.allclose(low.mean(0), 0)


def test_spectra_of_others_differ_each_time():
    random = np.random.default_rng(0)
    rows = cepstra(random)
    one, two = (spectra_of_others(rows, random) for _ in range(2))
    assert all(a.shape != b.shape or not np.allclose(a, b) for a, b in zip(one, two, strict=True))
    for row, other in zip(rows, one, strict=True):
        assert other.shape[1] == 24
        assert 0.75 * len(row) < len(other) < 1.3 * len(row)
    same = [spectra_of_others(rows, np.random.default_rng(1)) for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(*same, strict=True))


def test_spectra_of_others_without_any_change_are_spectra():
    rows = cepstra(np.random.default_rng(0))
    same = spectra_of_others(rows, np.random.default_rng(0), (90.0, 90.0), spread=0.0, pace=0.0)
    for row, other in zip(spectra(rows, 90.0), same, strict=True):
        assert np.allclose(row, other)


@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_the_shortest_have_spectra(length):
    rows = [np.ones((length, 13))]
    assert spectra(rows)[0].shape == (length, 24)
    other = spectra_of_others(rows, np.random.default_rng(0))[0]
    assert other.shape == (length, 24) if length < 2 else len(other) >= 2
    assert np.isfinite(other).all()


def test_another_speaker_moves_the_spectrum_along_the_bands():
    assert np.allclose(stretch_matrix(13, 1.0), np.eye(13))
    peak = np.exp(-((np.arange(24) - 12.0) ** 2) / 8)  # a formant
    row = peak @ np.linalg.pinv(np.cos(np.pi * np.outer((np.arange(24) + 0.5) / 24, np.arange(13)))).T
    voice = np.stack([row, row * 0])
    heights = [
        int(np.argmax(np.ptp(spectra([voice @ stretch_matrix(13, f)], 50.0)[0], axis=0)))
        for f in (0.8, 1, 1.25)
    ]
    assert heights == sorted(heights)
    assert len(set(heights)) == 3
    rows = cepstra(np.random.default_rng(0))
    assert [a.shape for a in as_other_speakers(rows, np.random.default_rng(0))] == [a.shape for a in rows]


def test_spectra_that_make_no_sense():
    rows = cepstra(np.random.default_rng(0))
    with pytest.raises(UsageError, match="bands"):
        spectra(rows, bands=0)
    with pytest.raises(UsageError, match="lower bound first"):
        spectra_of_others(rows, np.random.default_rng(0), (9.0, 2.0))
    bad: list[Any] = [
        rows[0],
        ["text"],
        [rows[0], rows[0] * np.nan],
        [np.zeros((5, 0))],
        [np.zeros((2, 3, 4))],
    ]
    for wrong in bad:
        for function in (spectra, lambda one: spectra_of_others(one, np.random.default_rng(0))):
            with pytest.raises(UsageError, match="finite cepstra"):
                function(wrong)


# ---- the head ----------------------------------------------------------------------------------------


def head_of(features="all", channels=12, planes=1, levels=2):
    torch.manual_seed(0)
    head = ConvolutionalNet(Gaussian(channels), 3, 4, planes=planes, features=features, levels=levels)
    rows = [[reading(head, np.random.default_rng(1), n)] for n in (30, 9)]
    head.train()
    for _ in range(3):
        head([row[0] for row in rows])  # so that the normalisation has something to forget
    return head.double().eval().requires_grad_(False)


def reading(head, random, length):
    """Of a random sequence, of which a quarter reaches a second level."""
    sequence = random.standard_normal((length, head.observation.size))
    at = np.sort(random.permutation(length)[: -(-length // 4)])
    nothing = np.zeros(0)
    return head.readings(sequence, History((np.arange(length), at, at[:0]), nothing, nothing))


@pytest.mark.parametrize("features", ["all", "top"])
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("channels", [2, 12, 26])
def test_a_row_does_not_see_its_neighbours(features, planes, channels):
    head = head_of(features, channels, planes)
    random = np.random.default_rng(0)
    rows = [reading(head, random, n) for n in (1, 2, 3, 5, 8, 17, 40, 0)]
    together = head(rows)
    alone = torch.cat([head([row]) for row in rows])
    assert torch.allclose(together, alone, rtol=0, atol=1e-12)
    assert len(torch.unique(together[:, 0])) == len(rows)


def test_only_cells_with_events_are_pooled():
    """An input that no cell with an event can see does not matter; one that it sees does."""
    head = head_of("top")
    sequence = np.random.default_rng(0).standard_normal((200, 12))
    events = Reading(sequence[:3], np.arange(3))

    def told(at):
        changed = sequence.copy()
        changed[at] += 5
        return head([[Reading(changed, np.arange(200)), events]])

    before = head([[Reading(sequence, np.arange(200)), events]])
    assert torch.equal(told(150), before)
    assert not torch.allclose(told(4), before)
    none = Reading(sequence[:0], np.zeros(0, np.int64))
    assert torch.equal(head.pooled([[Reading(sequence, np.arange(200)), none]]), torch.zeros(1, 2 * 12 * 2))


def test_all_levels_are_pooled():
    """The cells of the lowest level's inputs, which are all, and of the second level's."""
    head = head_of("all")
    whole, events = reading(head, np.random.default_rng(0), 40)
    both = head.pooled([[whole, events]])
    top = head_of("top").pooled([[whole, events]])
    alone = head_of("all", levels=1).pooled([[whole]])
    assert torch.equal(both, torch.cat([alone, top], 1))
    assert not torch.equal(alone, top)


def voices(random, count):
    """A line over 16 channels that rises or falls, anywhere, by anyone."""
    labels = random.integers(0, 2, count)
    rows = []
    for label in labels:
        n, start = int(random.integers(20, 30)), random.uniform(4, 10)
        line = start + (2 * label - 1) * np.linspace(-3, 3, n)
        rows.append(np.exp(-((np.arange(16) - line[:, None]) ** 2) / 2) + random.normal(size=(n, 16)) / 10)
    return rows, labels


QUICK: dict[str, Any] = {"steps": 60, "learning_rate": 1e-2, "maps": 4}


@pytest.mark.parametrize(
    "parameters",
    [
        {"heads": [ConvolutionalHead(**QUICK)]},
        {"heads": [ConvolutionalHead(members=2, **QUICK)], "features": "top", "deltas": True},
        {
            "heads": [
                RandomKernelHead(kernels=50),
                ConvolutionalHead(warp=0.1, noise=0.05, label_smoothing=0.1, **QUICK),
            ]
        },
    ],
)
def test_a_classifier_learns_spectra_and_comes_back_from_a_file(parameters, tmp_path):
    rows, labels = voices(np.random.default_rng(0), 100)
    model = HistoryClassifier((6, 5), steps=5, random_state=0, **parameters).fit(rows[:60], labels[:60])
    assert model.score(rows[60:], labels[60:]) >= 0.9
    assert sum(model.pool_) == pytest.approx(1)
    save_classifier(tmp_path / "model", model)
    again = load_classifier(tmp_path / "model")
    assert np.array_equal(again.predict_proba(rows), model.predict_proba(rows))
    assert str(again) == str(model)


def test_symbols_have_no_order_to_convolve():
    with pytest.raises(UsageError, match="vectors"):
        HistoryClassifier((4,), steps=0, heads=[ConvolutionalHead()]).fit(["ab", "cd"], [0, 1])
