"""HistoryClassifier and HistoryTransformer as scikit-learn estimators, and classifiers in files."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from safetensors.numpy import load_file, save_file
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from chunker.classification import (
    HistoryClassifier,
    HistoryTransformer,
    load_classifier,
    load_estimator,
    safefile,
    save_classifier,
)
from chunker.errors import ModelNotFound, ModelVersionError, NotAModel, UsageError

torch.set_num_threads(1)

# The real thing, only small: levels, steps and kernels.
CLASSIFIER = HistoryClassifier((6,), steps=0, features="all", head_steps=15, batch=16, rate=3e-2, contexts=20)
TRANSFORMER = HistoryTransformer((6,), steps=2)


@parametrize_with_checks([CLASSIFIER, TRANSFORMER])
def test_scikit_learn(estimator, check):
    check(estimator)


def long_lag(count, random, length=60):
    """The first symbol decides; what follows counts modulo 6 and is the same for both classes."""
    rows, labels = [], []
    for _ in range(count):
        label = int(random.integers(2))
        n, start = int(random.integers(length // 2, length)), int(random.integers(6))
        rows.append([label, *(int(v) for v in (start + np.arange(n)) % 6)])
        labels.append("ab"[label])
    return rows, labels


@pytest.fixture(scope="module")
def fitted():
    rows, labels = long_lag(120, np.random.default_rng(0))
    model = HistoryClassifier(
        (24, 16), features="top", contexts=0, steps=120, head_steps=100, rate=1e-2, random_state=0
    )
    return model.fit(rows, labels), rows


def test_a_label_at_the_beginning_is_found_through_the_top_level(fitted):
    model, _ = fitted
    assert len(model.stack_.levels) == 2
    for length in (60, 1000):
        rows, labels = long_lag(60, np.random.default_rng(1), length)
        assert model.score(rows, labels) == 1.0
        assert model.event_share(rows) < 0.15
    assert model.event_share(rows) < 0.02  # the longer, the less there is to see


def test_probabilities(fitted):
    model, rows = fitted
    probabilities = model.predict_proba(rows)
    assert probabilities.shape == (len(rows), 2)
    assert np.allclose(probabilities.sum(1), 1)
    assert model.classes_.tolist() == ["a", "b"]
    assert np.array_equal(model.classes_[probabilities.argmax(1)], model.predict(rows))


def test_empty_and_unknown_inputs_get_a_class(fitted):
    model, _ = fitted
    assert set(model.predict([[], [0], [99, 98]])) <= {"a", "b"}


def test_pickled_and_cloned(fitted):
    model, rows = fitted
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(rows), model.predict_proba(rows))
    assert not hasattr(clone(model), "stack_")
    assert copy.deepcopy(model).predict(rows[:2]).tolist() == model.predict(rows[:2]).tolist()


def words(random, count=80):
    """Two made-up languages."""
    syllables = {"x": ["ka", "to", "mi"], "y": ["ta", "ko", "mi"]}
    labels = random.choice(["x", "y"], count)
    return ["".join(random.choice(syllables[c], int(random.integers(3, 7)))) for c in labels], labels


VARIANTS = {
    "strings, contexts of all inputs": {"contexts": 4096, "head": "none"},
    "strings, contexts of events": {
        "contexts": 4096,
        "head": "none",
        "features": "top",
        "gate": "surprise",
        "threshold": 0.5,
    },
    "strings, all levels both ways": {"backwards": True, "pooling": "attention+max"},
    "strings, frozen": {"head": "mlp", "head_steps": 150},
    "strings, two heads and contexts": {"members": 2, "contexts": 1024, "cell": "rnn"},
}


@pytest.mark.parametrize("parameters", VARIANTS.values(), ids=VARIANTS)
def test_variants_learn_and_come_back_from_files(parameters, tmp_path):
    rows, labels = words(np.random.default_rng(0))
    settings = {"steps": 40, "head_steps": 60, "rate": 1e-2, **parameters}
    model = HistoryClassifier((16, 8), random_state=0, **settings).fit(rows[:60], labels[:60])
    assert model.score(rows[60:], labels[60:]) >= 0.9
    save_classifier(tmp_path / "model", model)
    again = load_classifier(tmp_path / "model")
    assert np.array_equal(again.predict_proba(rows), model.predict_proba(rows))
    assert again.get_params() == model.get_params()


def test_vectors_of_unequal_length(tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    rows = [
        np.stack([np.sin(np.arange(n) * (c + 1) / 3), random.normal(size=n) / 5], 1)
        for c, n in zip(labels, random.integers(15, 40, 60), strict=True)
    ]
    model = HistoryClassifier(
        (16,), steps=40, features="all", head_steps=60, rate=1e-2, noise=0.1, warp=0.1, contexts=60,
        per_case=True, deltas=True, random_state=0,
    )  # fmt: skip
    model.fit(rows[:40], labels[:40])
    assert model.score(rows[40:], labels[40:]) >= 0.85
    save_classifier(tmp_path / "model", model)
    assert np.array_equal(load_classifier(tmp_path / "model").predict_proba(rows), model.predict_proba(rows))


def test_unlabelled_sequences_are_learnt_from():
    rows, labels = words(np.random.default_rng(0), 20)
    more, _ = words(np.random.default_rng(1), 20)
    model = HistoryClassifier((8,), steps=5, head_steps=5, random_state=0)
    plain = model.fit(rows, labels).stack_.level(0).get_parameter("symbol_input").clone()
    both = model.fit(rows, labels, unlabelled=[*more, "zzz"]).stack_.level(0).get_parameter("symbol_input")
    assert plain.shape != both.shape  # z is a symbol now
    assert model.preparation_.size == ord("z") + 2


def test_same_seed_same_classifier():
    rows, labels = words(np.random.default_rng(0), 20)
    before = torch.random.get_rng_state()
    models = [
        HistoryClassifier((8,), steps=5, head_steps=5, random_state=s).fit(rows, labels) for s in (3, 3, 4)
    ]
    probabilities = [model.predict_proba(rows) for model in models]
    assert np.array_equal(probabilities[0], probabilities[1])
    assert not np.array_equal(probabilities[0], probabilities[2])
    assert torch.equal(before, torch.random.get_rng_state())  # the program's own generator is left alone


def test_a_transformer_in_a_pipeline(tmp_path):
    rows, labels = words(np.random.default_rng(0))
    pipeline = make_pipeline(
        HistoryTransformer((24,), steps=60, features="all", pooling="mean+max", random_state=0),
        StandardScaler(),
        LogisticRegression(),
    )
    pipeline.fit(rows[:60], labels[:60])
    assert pipeline.score(rows[60:], labels[60:]) >= 0.8
    features = pipeline[0].transform(rows)
    assert features.shape == (80, len(pipeline[0].get_feature_names_out()))
    save_classifier(tmp_path / "model", pipeline[0])
    again = load_estimator(tmp_path / "model")
    assert isinstance(again, HistoryTransformer)
    assert np.array_equal(again.transform(rows), features)
    with pytest.raises(NotAModel, match="HistoryTransformer"):
        load_classifier(tmp_path / "model")


@pytest.mark.parametrize(
    ("parameters", "words_"),
    [
        ({"head": "none", "contexts": 0}, "no classifier"),
        ({"features": "some"}, "features"),
        ({"pooling": "sum"}, "pooling"),
        ({"cell": "cat"}, "cell"),
        ({"gate": "tolerance"}, "does not fit"),
        ({"levels": ()}, "at least one level"),
    ],
)
def test_parameters_that_cannot_be_used(parameters, words_):
    with pytest.raises(UsageError, match=words_):
        HistoryClassifier(**{"steps": 0, "levels": (4,), **parameters}).fit(["ab", "cd"], [0, 1])


def test_labels_that_do_not_fit():
    with pytest.raises(UsageError, match="3 labels"):
        HistoryClassifier().fit(["ab", "cd"], [0, 1, 1])


# ---- files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory):
    rows, labels = words(np.random.default_rng(0), 12)
    path = tmp_path_factory.mktemp("saved") / "model"
    save_classifier(path, HistoryClassifier((4,), steps=2, head_steps=2).fit(rows, labels))
    return path


def test_damaged_files_are_refused(saved: Path, tmp_path):
    blob = bytearray(saved.read_bytes())
    for name, bad in {
        "cut": bytes(blob[:-5]),
        "flipped": bytes(blob[:-1] + bytes([blob[-1] ^ 1])),
        "text": b"hello, this is text and no model at all",
        "empty": b"",
    }.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(NotAModel):
            load_classifier(tmp_path / name)
    with pytest.raises(ModelNotFound):
        load_classifier(tmp_path / "nothing")


def test_tensors_alone_are_no_classifier(saved: Path, tmp_path):
    save_file(load_file(saved), tmp_path / "bare")
    with pytest.raises(NotAModel, match="no classifier"):
        load_classifier(tmp_path / "bare")


@pytest.mark.parametrize("version", [0, 99])
def test_classifiers_of_other_versions_are_refused(version, tmp_path):
    fields = json.dumps({"version": version, "checksum": ""})
    save_file({"x": np.zeros(1)}, tmp_path / "model", metadata={safefile.METADATA_KEY: fields})
    with pytest.raises(ModelVersionError, match=f"version {version}, .* fit it again"):
        load_classifier(tmp_path / "model")


@pytest.mark.parametrize(
    "wrong",
    [
        {"pooling": "sum"},
        {"pooling": None},
        {"features": "most"},
        {"head": "mpl"},
        {"dropout": 1.0},
        {"noise": float("nan")},
        {"levels": 8},
        {"levels": ()},
        {"levels": (8, 0.5)},
        {"steps": 1.5},
        {"head_steps": -1},
        {"batch": 0},
        {"contexts": -1},
        {"convolutions": "many"},
        {"convolutions": None},
        {"members": True},
    ],
)
def test_what_cannot_be_is_refused_before_the_stack_is_trained(wrong, monkeypatch):
    monkeypatch.setattr(HistoryClassifier, "_pretrain", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(HistoryTransformer, "_pretrain", lambda *_: pytest.fail("trained"))
    named = "steps of the head" if "head_steps" in wrong else next(iter(wrong))
    with pytest.raises(UsageError, match=named):
        HistoryClassifier(**wrong).fit(["ab", "cd", "ab"], [0, 1, 0])
    if set(wrong) <= {"pooling", "features", "levels", "steps"}:
        with pytest.raises(UsageError, match=named):
            HistoryTransformer(**wrong).fit(["ab", "cd"])


def test_what_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(UsageError, match="call fit"):
        save_classifier(tmp_path / "model", HistoryClassifier())
    assert not list(tmp_path.iterdir())
