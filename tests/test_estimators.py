"""HistoryClassifier and HistoryTransformer as scikit-learn estimators, and classifiers in files."""

from __future__ import annotations

import copy
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import make_golden
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from safetensors.numpy import load_file, save_file
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from chunker import GateRule
from chunker.classification import (
    ConvolutionalHead,
    HistoryClassifier,
    HistoryTranscriber,
    HistoryTransformer,
    NgramHead,
    RandomKernelHead,
    RecurrentHead,
    load_classifier,
    load_estimator,
    safefile,
    save_classifier,
)
from chunker.classification.heads import Head
from chunker.errors import ModelNotFound, ModelVersionError, NotAModel, UsageError

torch.set_num_threads(1)

# The real thing, only small: levels, steps and kernels.
CLASSIFIER = HistoryClassifier(
    (6,),
    steps=0,
    heads=[RecurrentHead(steps=15, batch_size=16, learning_rate=3e-2), RandomKernelHead(kernels=20)],
)
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
    head = RecurrentHead(steps=100, learning_rate=1e-2)
    model = HistoryClassifier((24, 16), features="top", steps=120, heads=[head], random_state=0)
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


QUICK: dict[str, Any] = {"steps": 60, "learning_rate": 1e-2}
VARIANTS: dict[str, dict[str, Any]] = {
    "strings, contexts of all inputs": {"heads": [NgramHead(buckets=4096)]},
    "strings, contexts of events": {
        "heads": [NgramHead(buckets=4096, longest=3)],
        "features": "top",
        "gate": GateRule("surprise", 0.5),
    },
    "strings, all levels both ways": {
        "heads": [RecurrentHead(backwards=True, pooling="attention+max", **QUICK)]
    },
    "strings, frozen": {"heads": [RecurrentHead(readout="mlp", steps=150, learning_rate=1e-2), NgramHead()]},
    "strings, two nets and contexts": {
        "heads": [RecurrentHead(members=2, **QUICK), NgramHead(buckets=1024)],
        "cell": "rnn",
    },
    "strings, what stands for None": {},
}


@pytest.mark.parametrize("parameters", VARIANTS.values(), ids=VARIANTS)
def test_variants_learn_and_come_back_from_files(parameters, tmp_path):
    rows, labels = words(np.random.default_rng(0))
    model = HistoryClassifier((16, 8), steps=40, random_state=0, **parameters).fit(rows[:60], labels[:60])
    assert model.score(rows[60:], labels[60:]) >= 0.9
    save_classifier(tmp_path / "model", model)
    again = load_classifier(tmp_path / "model")
    assert np.array_equal(again.predict_proba(rows), model.predict_proba(rows))
    assert parameters_of(again) == parameters_of(model)


def parameters_of(model):
    """With heads as text, because two of the same parameters are not equal."""
    return {name: str(value) for name, value in model.get_params().items()}


# ---- heads as parameters -----------------------------------------------------------------------------


def test_heads_are_parameters_of_a_classifier():
    heads = [RecurrentHead(steps=7), NgramHead()]
    model = HistoryClassifier(heads=heads)
    found = model.get_params()
    assert found["heads__0__steps"] == 7
    assert found["heads__1"] is heads[1]
    assert "heads__0__steps" not in model.get_params(deep=False)
    copied = clone(model).set_params(heads__0__steps=9, heads__1=RandomKernelHead(), heads__1__kernels=5)
    assert (copied.heads[0].steps, copied.heads[1].kernels) == (9, 5)
    assert heads[0].steps == 7  # the clone has heads of its own
    assert isinstance(heads[1], NgramHead)
    assert "steps=7" in repr(model)


@pytest.mark.parametrize("name", ["heads__2__steps", "heads__0__maps", "heads__x", "head"])
def test_parameters_that_no_head_has_are_refused(name):
    with pytest.raises(ValueError, match="Invalid parameter"):
        HistoryClassifier(heads=[RecurrentHead(), NgramHead()]).set_params(**{name: 1})
    with pytest.raises(ValueError, match="Invalid parameter"):
        HistoryClassifier().set_params(heads__0__steps=1)


def test_a_grid_search_goes_through_heads():
    rows, labels = words(np.random.default_rng(0))
    head = NgramHead(buckets=1024)
    model = HistoryClassifier((4,), steps=0, heads=[head], random_state=0)
    search = GridSearchCV(model, {"heads__0__longest": [1, 3], "features": ["all"]}, cv=2)
    search.fit(rows, labels)
    assert search.best_estimator_.heads[0].longest == search.best_params_["heads__0__longest"]
    assert len(search.cv_results_["params"]) == 2
    assert head.longest == 5


def test_fitting_leaves_the_given_heads_as_they_are():
    rows, labels = words(np.random.default_rng(0), 12)
    heads = [RecurrentHead(steps=1), NgramHead()]
    model = HistoryClassifier((4,), steps=0, heads=heads).fit(rows, labels)
    assert not any(name.endswith("_") for head in heads for name in vars(head))
    assert model.heads_[0] is not heads[0]


def test_heads_that_cannot_read_the_inputs_are_named():
    with pytest.raises(UsageError, match="NgramHead reads symbols"):
        HistoryClassifier((4,), steps=0, heads=[NgramHead()]).fit(np.ones((4, 5)), [0, 1, 0, 1])
    with pytest.raises(UsageError, match="RandomKernelHead reads vectors"):
        HistoryClassifier((4,), steps=0, heads=[RandomKernelHead()]).fit(["a", "b"], [0, 1])


def test_vectors_of_unequal_length(tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    rows = [
        np.stack([np.sin(np.arange(n) * (c + 1) / 3), random.normal(size=n) / 5], 1)
        for c, n in zip(labels, random.integers(15, 40, 60), strict=True)
    ]
    heads = [RecurrentHead(noise=0.1, warp=0.1, **QUICK), RandomKernelHead(kernels=60)]
    model = HistoryClassifier((16,), steps=40, per_case=True, deltas=True, heads=heads, random_state=0)
    model.fit(rows[:40], labels[:40])
    assert model.score(rows[40:], labels[40:]) >= 0.85
    save_classifier(tmp_path / "model", model)
    assert np.array_equal(load_classifier(tmp_path / "model").predict_proba(rows), model.predict_proba(rows))


def test_unlabelled_sequences_are_learnt_from():
    rows, labels = words(np.random.default_rng(0), 20)
    more, _ = words(np.random.default_rng(1), 20)
    model = HistoryClassifier((8,), steps=5, heads=[RecurrentHead(steps=5)], random_state=0)
    plain = model.fit(rows, labels).stack_.level(0).get_parameter("symbol_input").clone()
    both = model.fit(rows, labels, unlabelled=[*more, "zzz"]).stack_.level(0).get_parameter("symbol_input")
    assert plain.shape != both.shape  # z is a symbol now
    assert model.preparation_.size == ord("z") + 2


def test_same_seed_same_classifier():
    rows, labels = words(np.random.default_rng(0), 20)
    before = torch.random.get_rng_state()
    models = [
        HistoryClassifier((8,), steps=5, heads=[RecurrentHead(steps=5), NgramHead()], random_state=s).fit(
            rows, labels
        )
        for s in (3, 3, 4)
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
        ({"heads": []}, "no classifier"),
        ({"heads": ["tune"]}, "list of heads"),
        ({"heads": RecurrentHead()}, "list of heads"),
        ({"features": "some"}, "features"),
        ({"heads": [RecurrentHead(pooling="sum")]}, "pooling"),
        ({"gate": "rate"}, "GateRule"),
        ({"cell": "cat"}, "cell"),
        ({"gate": GateRule("tolerance", 0.5)}, "does not fit"),
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
    save_classifier(path, HistoryClassifier((4,), steps=2, heads=[RecurrentHead(steps=2)]).fit(rows, labels))
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


RECURRENT, NGRAMS, MAPS, KERNELS = (("symbols", 0), ("symbols", 1), ("vectors", 0), ("vectors", 1))
CLAIMS: dict[str, tuple[tuple[str, int], list[Any], object]] = {
    "a level's width": (RECURRENT, [0, "stack", "widths", 0], 10**6),
    "many levels": (RECURRENT, [0, "stack", "widths"], [1] * 10**6),
    "symbols": (RECURRENT, [0, "stack", "observation", "size"], 10**12),
    "members": (RECURRENT, ["head", "members"], 10**9),
    "buckets": (NGRAMS, ["head", "buckets"], 10**30),
    "n-grams": (NGRAMS, ["head", "longest"], 10**12),
    "buckets beyond the claimed": (NGRAMS, ["head", "buckets"], 1),
    "weights without rows": (NGRAMS, [1, "head.1.weights"], np.zeros((0, 10**12), np.float32)),
    "a bias of another shape": (NGRAMS, [1, "head.1.bias"], np.zeros((0, 10**12), np.float32)),
    "rows that fall": (NGRAMS, [1, "head.1.used"], np.array([3, 1])),
    "maps": (MAPS, ["head", "maps"], 10**6),
    "kernels": (KERNELS, ["head", "kernels"], 10**12),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_that_the_tensors_do_not_bear_out_are_refused(claim, tmp_path):
    """Before the memory is taken."""
    (kind, number), where, value = CLAIMS[claim]
    fields, tensors = safefile.read(make_golden.GOLDEN / f"classifier-{kind}.safetensors")
    found: Any = (fields, tensors)
    *inner, last = [0, "heads", number, 1, *where[1:]] if where[0] == "head" else where
    for key in inner:
        found = found[key]
    found[last] = value
    safefile.write(tmp_path / "model", fields, tensors)
    tracemalloc.start()
    try:
        with pytest.raises(NotAModel) as caught:
            load_classifier(tmp_path / "model")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value).splitlines()) == 1


def test_buckets_that_no_context_fell_into_take_no_memory(tmp_path):
    """A file may claim any number of them."""
    rows, _ = make_golden.labelled_cases()["symbols"]
    fields, tensors = safefile.read(make_golden.GOLDEN / "classifier-symbols.safetensors")
    fields["heads"][1][1]["buckets"] = 10**12
    safefile.write(tmp_path / "model", fields, tensors)
    tracemalloc.start()
    try:
        assert len(load_classifier(tmp_path / "model").predict(rows[:2])) == 2
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


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


@pytest.mark.parametrize("wrong", [{"features": "most"}, {"levels": 8}, {"levels": (8, 0.5)}, {"steps": 1.5}])
@pytest.mark.parametrize("estimator", [HistoryClassifier, HistoryTransformer, HistoryTranscriber])
def test_what_cannot_be_is_refused_before_the_stack_is_trained(estimator, wrong):
    model = estimator(**wrong)
    with pytest.raises(UsageError, match=next(iter(wrong))):
        model.fit(["ab", "cd", "ab"], ["0", "1", "0"])
    assert not hasattr(model, "stack_")


HEADS: list[tuple[type[Head], dict[str, Any]]] = [
    (RecurrentHead, {"pooling": "sum"}),
    (RecurrentHead, {"pooling": None}),
    (RecurrentHead, {"readout": "mpl"}),
    (RecurrentHead, {"dropout": 1.0}),
    (RecurrentHead, {"noise": float("nan")}),
    (RecurrentHead, {"learning_rate": -1}),
    (RecurrentHead, {"steps": -1}),
    (RecurrentHead, {"batch_size": 0}),
    (RecurrentHead, {"members": True}),
    (RecurrentHead, {"members": 0}),
    (NgramHead, {"buckets": -1}),
    (NgramHead, {"longest": 0}),
    (RandomKernelHead, {"kernels": 0}),
    (ConvolutionalHead, {"maps": "many"}),
    (ConvolutionalHead, {"maps": None}),
    (ConvolutionalHead, {"maps": -1}),
]


@pytest.mark.parametrize(("kind", "wrong"), HEADS)
def test_heads_that_cannot_be_are_refused_before_the_stack_is_trained(kind, wrong):
    model = HistoryClassifier(heads=[kind(**wrong)])
    with pytest.raises(UsageError, match=next(iter(wrong))):
        model.fit(["ab", "cd", "ab"], [0, 1, 0])
    assert not hasattr(model, "stack_")
    if kind is RecurrentHead:
        with pytest.raises(UsageError, match=next(iter(wrong))):
            HistoryTranscriber(head=kind(**wrong)).fit(["ab", "cd"], ["x", "y"])


def test_a_transformer_pools_what_needs_no_labels():
    wrong: list[tuple[Any, str]] = [("sum", "pooling"), (None, "pooling"), ("last+attention", "labels")]
    for pooling, words_ in wrong:
        with pytest.raises(UsageError, match=words_):
            HistoryTransformer(pooling=pooling).fit(["ab", "cd"])


@pytest.mark.parametrize("kind", ["symbols", "vectors"])
def test_golden_classifiers_find_what_they_found(kind):
    rows, labels = make_golden.labelled_cases()[kind]
    expected = json.loads((make_golden.GOLDEN / f"classifier-{kind}.json").read_text())
    model = load_classifier(make_golden.GOLDEN / f"classifier-{kind}.safetensors")
    assert model.classes_.tolist() == expected["classes"] == sorted(set(labels))
    assert np.allclose(model.predict_proba(rows), expected["probabilities"], atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_absurd_weights_are_refused_at_saving_and_at_loading(value, tmp_path, monkeypatch):
    model = HistoryClassifier((4,), steps=0, heads=[RecurrentHead(steps=1)], random_state=0)
    model.fit(["ab", "cd", "ab", "cd"], ["0", "1", "0", "1"])
    with torch.no_grad():
        model.stack_.level(0).recurrent[0, 0] = value
    with pytest.raises(
        NotAModel, match=r"model: tensor stack\..*recurrent holds numbers that are not finite"
    ):
        save_classifier(tmp_path / "model", model)
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(safefile, "_refuse_absurd", lambda *arguments: None)
        save_classifier(tmp_path / "model", model)
    with pytest.raises(NotAModel, match="absurdly large; fit it again"):
        load_classifier(tmp_path / "model")


def test_what_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(UsageError, match="call fit"):
        save_classifier(tmp_path / "model", HistoryClassifier())
    assert not list(tmp_path.iterdir())
