"""The stack over symbols and vectors: no leakage, events, growth, reduction;
pooling, contexts, CTC, files."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from chunker.classification import load_estimator, save_classifier
from chunker.classification.ctc import (
    HistoryTranscriber,
    beam_search,
    edit_distance,
    greedy,
    label_error_rate,
)
from chunker.classification.heads import RecurrentHead
from chunker.classification.inputs import Preparation, as_sequences
from chunker.classification.labelled import read_labelled
from chunker.classification.nets import CaseNet, Pool, Reading, RecurrentNet
from chunker.config import GateRule
from chunker.errors import CorpusError, UsageError
from chunker.learning.history import HistoryStack, of_like_length, since_of
from chunker.learning.level import Level
from chunker.learning.observation import Categorical, Gaussian
from chunker.learning.pretraining import PretrainConfig, pretrain
from chunker.learning.reduction import compress_history, expand, tolerance_of

SYMBOLS, VECTORS = Categorical(6), Gaussian(2)


pytestmark = pytest.mark.usefixtures("one_thread")


def cycles(count, random, longest=120):
    """Counting modulo 5, now and then from elsewhere: little of it is unexpected."""
    found = []
    for _ in range(count):
        row, value = [], int(random.integers(5))
        for _ in range(int(random.integers(20, longest))):
            row.append(value)
            value = int(random.integers(5)) if random.uniform() < 0.05 else (value + 1) % 5
        found.append(np.array(row))
    return found


def waves(count, random):
    """Two channels of sines with a jump in each."""
    found = []
    for _ in range(count):
        t = np.arange(int(random.integers(20, 80)))
        row = np.stack([np.sin(t / 3), np.cos(t / 5)], 1)
        row[len(t) // 2 :] += 2 * random.normal(size=2)
        found.append(row)
    return found


@pytest.fixture(scope="module")
def symbol_stack():
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    rows = cycles(40, random)
    stack, reports = pretrain(
        SYMBOLS, rows, PretrainConfig((24, 12), steps=150), GateRule("surprise", 1.0), "gru", random
    )
    return stack, reports, rows


@pytest.fixture(scope="module")
def vector_stack():
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    rows = waves(30, random)
    preparation = Preparation.learn("vectors", rows, False, False)
    rows = preparation.apply(rows)
    stack, reports = pretrain(
        preparation.observation,
        rows,
        PretrainConfig((16, 8), steps=120),
        GateRule("rate", 0.2),
        "lstm",
        random,
    )
    return stack, reports, rows


@pytest.fixture(params=["symbols", "vectors"])
def grown(request, symbol_stack, vector_stack):
    return symbol_stack if request.param == "symbols" else vector_stack


# ---- surprise ----------------------------------------------------------------------------------------


def test_bits_of_a_vector_are_those_of_the_gaussian_at_the_quantum():
    observation = Gaussian(2, quantum=0.01)
    prediction = torch.tensor([0.5, -1.0, np.log(2.0), np.log(0.5)], dtype=torch.float64)
    x = torch.tensor([1.0, -1.5], dtype=torch.float64)
    normal = torch.distributions.Normal(prediction[:2], prediction[2:].exp())
    expected = -(normal.log_prob(x) + np.log(0.01)).sum() / np.log(2)
    assert float(observation.bits(prediction, x)) == pytest.approx(float(expected))
    entropy = (normal.entropy() - np.log(0.01)).sum() / np.log(2)
    assert float(observation.entropy_bits(prediction)) == pytest.approx(float(entropy))
    assert float(observation.error(prediction, x)) == pytest.approx(0.5)


@pytest.mark.parametrize(("observation", "rule"), [(SYMBOLS, "tolerance"), (VECTORS, "argmax")])
def test_gates_that_do_not_fit_are_refused(observation, rule):
    with pytest.raises(UsageError, match="does not fit"):
        HistoryStack(observation, "gru", GateRule(rule, 0.5))


# ---- the stack ---------------------------------------------------------------------------------------


def test_what_is_regular_does_not_go_up(symbol_stack):
    stack, reports, _ = symbol_stack
    assert len(stack.levels) == 2
    assert reports[1].share < 0.15  # one in 20 is a jump, and each sequence has a first input
    assert reports[0].bits < 0.6


def test_the_rate_is_calibrated(vector_stack):
    _, reports, _ = vector_stack
    assert reports[1].share == pytest.approx(0.2, abs=0.05)


def test_rows_do_not_meet(grown):
    """Each sequence alone gives what it gives in a batch of unequal lengths,
    empty and short ones included."""
    stack, _, rows = grown
    rows = [rows[0][:0], rows[1][:1], *rows[2:9]]
    for row, together in zip(rows, stack.read(rows), strict=True):
        alone = stack.read([row])[0]
        for a, b in zip(alone.levels, together.levels, strict=True):
            assert np.array_equal(a, b)
        assert np.allclose(alone.bits, together.bits, atol=1e-9)
        assert len(alone.bits) == len(row)


def test_windows_do_not_show(grown, monkeypatch):
    stack, _, rows = grown
    whole = stack.read(rows[:6])
    monkeypatch.setattr("chunker.learning.history.WINDOW", 7)
    for a, b in zip(whole, stack.read(rows[:6]), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a.levels, b.levels, strict=True))
        assert np.allclose(a.bits, b.bits, atol=1e-9)


def test_levels_tick_only_on_what_the_level_below_did_not_predict(symbol_stack):
    """Against a plain loop over one sequence."""
    stack, _, rows = symbol_stack
    row, at = rows[3], np.arange(len(rows[3]))
    history = stack.read([row])[0]
    for index in range(len(stack.levels)):
        assert np.array_equal(history.levels[index], at)
        level = stack.level(index)
        state = level.start(1)
        missed: list[int] = []
        for k, since in zip(at, since_of(at), strict=True):
            p = torch.softmax(level.predict(state.h, None), -1)[0, row[k]]
            if not missed or -np.log2(float(p)) > 1:
                missed.append(int(k))
            x = torch.tensor([[row[k]]])
            _, state = level.run(x, state, torch.tensor([[int(since)]]))
        at = np.array(missed)
    assert np.array_equal(history.levels[-1], at)


def test_the_future_does_not_show(grown):
    stack, _, rows = grown
    row = rows[5]
    cut = stack.read([row[:15]])[0]
    whole = stack.read([row])[0]
    for a, b in zip(cut.levels, whole.levels, strict=True):
        assert np.array_equal(a, b[b < 15])


def test_growing_stops_when_nothing_is_left():
    torch.manual_seed(0)
    rows = [np.arange(60) % 3 for _ in range(25)]
    stack, reports = pretrain(
        Categorical(4),
        rows,
        PretrainConfig((16, 16, 16), steps=150),
        GateRule("argmax"),
        "gru",
        np.random.default_rng(0),
    )
    assert len(stack.levels) == len(reports) < 3


def test_same_seed_same_stack():
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        rows = cycles(10, np.random.default_rng(1))
        gate = GateRule("surprise", 1.0)
        stack, _ = pretrain(
            SYMBOLS, rows, PretrainConfig((8,), steps=20), gate, "rnn", np.random.default_rng(2)
        )
        weights.append(stack.level(0).symbol_input)
    assert torch.equal(*weights)


# ---- reduction ---------------------------------------------------------------------------------------


def test_reduced_sequences_expand_within_the_tolerance(grown):
    stack, _, rows = grown
    for row in rows[:5]:
        reduced = compress_history(stack, row)
        found = expand(stack, reduced)
        assert found.shape == row.shape
        error = np.abs(found - row).max()
        assert error <= reduced.tolerance + 1e-12
        assert len(reduced.values) < 0.6 * len(row)
        if not stack.observation.is_symbols:
            assert error > 0  # something was left out
    assert tolerance_of(stack) == (0 if stack.observation.is_symbols else max(stack.thresholds))


@pytest.mark.parametrize("length", [0, 1])
def test_the_shortest_sequences_expand(grown, length):
    stack, _, rows = grown
    row = rows[0][:length]
    assert np.array_equal(expand(stack, compress_history(stack, row)), row)


def test_a_gate_in_bits_states_no_tolerance():
    stack = HistoryStack(VECTORS, "gru", GateRule("surprise", 5.0))
    stack.add(Level(VECTORS, 4), 5.0)
    with pytest.raises(UsageError, match="tolerance"):
        compress_history(stack, np.zeros((3, 2)))


# ---- inputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "shape"),
    [
        (["ab", "", "c"], "symbols", (2,)),
        ([b"ab"], "symbols", (2,)),
        ([[1, 2, 3], [4]], "symbols", (3,)),
        ([[1.5, 2], [4.0]], "vectors", (2, 1)),
        ([np.zeros((5, 3)), np.zeros((0, 3))], "vectors", (5, 3)),
        (np.zeros((4, 7)), "vectors", (7, 1)),
        (np.zeros((4, 7, 2)), "vectors", (7, 2)),
    ],
)
def test_kinds_of_inputs(given, kind, shape):
    found, rows = as_sequences(given)
    assert (found, rows[0].shape) == (kind, shape)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("text", "list"),
        ([], "no sequences"),
        ([np.zeros((3, 2)), np.zeros((3, 1))], "channels"),
        ([[np.nan, 0.0]], "NaN"),
        ([[-1, 2]], "symbols outside"),
        (["a", [0.5]], "text and no vectors"),
    ],
)
def test_inputs_that_cannot_be_used(given, words):
    with pytest.raises(UsageError, match=words):
        as_sequences(given)


def test_unseen_symbols_become_one():
    preparation = Preparation.learn("symbols", [np.array([0, 3])], False, False)
    assert preparation.size == 5
    assert preparation.apply([np.array([3, 4, 77])])[0].tolist() == [3, 4, 4]


def test_vectors_are_standardised_and_given_back():
    rows = [np.random.default_rng(0).normal(5, 3, (50, 2))]
    preparation = Preparation.learn("vectors", rows, False, False)
    prepared = preparation.apply(rows)[0]
    assert np.allclose(prepared.mean(0), 0)
    assert np.allclose(prepared.std(0), 1)
    assert np.allclose(preparation.undo(prepared), rows[0])
    with pytest.raises(UsageError, match="channels"):
        preparation.apply([np.zeros((3, 5))])


# ---- heads -------------------------------------------------------------------------------------------


def test_pooling_sees_only_what_is_given():
    states = torch.randn(5, 3, 4)
    given = torch.arange(5).unsqueeze(1) < torch.tensor([5, 2, 0])
    pool = Pool(4, "last+mean+max+attention")
    out = pool(states, given)
    spoilt = pool(torch.where(given.unsqueeze(-1), states, 1e6), given)
    assert torch.allclose(out, spoilt)
    assert torch.equal(out[1, :4], states[1, 1])
    assert torch.allclose(out[1, 4:8], states[:2, 1].mean(0))
    assert torch.equal(out[2], torch.zeros(16))


def test_the_top_alone_is_read(symbol_stack):
    """A net that reads the top level cannot tell apart what differs only below the top level."""
    stack, _, rows = symbol_stack
    history = stack.read([rows[0]])[0]
    head = RecurrentNet(stack, 2, [len(stack.levels) - 1], backwards=True).eval()
    readings = head.readings(rows[0], history)
    assert [len(reading.at) for reading in readings] == [len(history.top)] * 2
    assert np.array_equal(readings[0].inputs, rows[0][history.top])
    assert np.array_equal(readings[1].inputs, rows[0][history.top][::-1])
    assert np.array_equal(np.diff(readings[1].at), np.diff(history.top)[::-1])


# ---- transcribing ------------------------------------------------------------------------------------


def test_beam_search_finds_what_greedy_misses():
    """Blank is best at each tick, yet the label in either tick is together more probable (Graves 2012)."""
    logs = np.log(np.array([[0.55, 0.45], [0.55, 0.45]]))
    assert greedy(logs) == []
    assert beam_search(logs, 4) == [1]


def test_beam_search_is_exact_on_all_labellings():
    random = np.random.default_rng(0)
    for _ in range(5):
        logs = np.log(random.dirichlet(np.ones(3), 5))
        sums: dict[tuple[int, ...], float] = {}
        for path in itertools.product(range(3), repeat=5):
            labels: tuple[int, ...] = tuple(
                int(k) for i, k in enumerate(path) if k and (i == 0 or path[i - 1] != k)
            )
            sums[labels] = sums.get(labels, 0.0) + float(np.exp(sum(logs[t, k] for t, k in enumerate(path))))
        best: tuple[int, ...] = max(sums, key=lambda labels: sums[labels])
        assert beam_search(logs, 1000) == list(best)


def test_edit_distance():
    assert edit_distance("kitten", "sitting") == 3
    assert label_error_rate(["12", ""], ["13", "44"]) == 0.75


@pytest.mark.parametrize("features", ["top", "all"])
def test_a_transcriber_learns_and_comes_back_from_a_file(features, tmp_path):
    """Steps up and down in noise, some ticks each, transcribed without being told where they are."""
    random = np.random.default_rng(0)
    rows, targets = [], []
    for _ in range(40):
        target = "".join(random.choice(list("ud"), int(random.integers(1, 4))))
        parts = []
        for label in target:
            parts += [np.zeros(int(random.integers(3, 7))), np.full(4, 1.0 if label == "u" else -1.0)]
        rows.append(np.concatenate(parts))
        targets.append(target)
    head = RecurrentHead(backwards=True, steps=150, learning_rate=1e-2, dropout=0.0)
    model = HistoryTranscriber(
        (16, 16), steps=50, features=features, head=head, per_case=False, random_state=0
    )
    assert model.fit(rows, targets) is model
    assert label_error_rate(model.predict(rows), targets) < 0.1
    assert model.set_params(beam_width=4).score(rows, targets) > 0.9
    save_classifier(tmp_path / "model", model)
    again = load_estimator(tmp_path / "model")
    assert isinstance(again, HistoryTranscriber)
    assert again.predict(rows) == model.predict(rows)
    assert {k: str(v) for k, v in again.get_params().items()} == {
        k: str(v) for k, v in model.get_params().items()
    }
    assert (model.event_share_ < 0.7) == (features == "top")


def test_a_transcriber_is_an_estimator():
    head = RecurrentHead(steps=3)
    model = HistoryTranscriber((4,), head=head, steps=1, random_state=3)
    copied = clone(model).set_params(head__steps=2, levels=(5,))
    assert (copied.get_params()["head__steps"], model.get_params()["head__steps"], head.steps) == (2, 3, 3)
    rows, targets = [np.sin(np.arange(n)) for n in (8, 9, 12, 7)], ["ab", ["a"], "", ("b", "a")]
    search = GridSearchCV(model, {"head__noise": [0.0, 0.1]}, cv=2).fit(rows, targets)
    assert not hasattr(model, "stack_")
    again = clone(search.best_estimator_).fit(rows, targets)
    assert again.predict(rows) == search.best_estimator_.predict(rows)  # the same seed
    assert again.labels_ == ["a", "b"]


@pytest.mark.parametrize(
    ("targets", "words"),
    [(["a"], "1 targets"), (["a", None], "target 1 is None"), (["a", 5], "target 1 is 5"), ("ab", "list")],
)
def test_targets_that_do_not_fit(targets, words):
    with pytest.raises(UsageError, match=words):
        HistoryTranscriber((4,), steps=0).fit(["xy", "yz"], targets)


@pytest.mark.parametrize(
    ("target", "needed"),
    [("abab", None), ("abcd", None), ("aab", None), ("abb", None), ("aabb", 6), ("ababc", 5)],
)
def test_a_target_that_its_inputs_cannot_express_is_named(target, needed):
    """Equal labels in a row need a blank between them."""
    head = RecurrentHead(steps=1, batch_size=2)
    model = HistoryTranscriber((4,), features="all", head=head, steps=0)
    rows, targets = [np.arange(9.0), np.arange(4.0)], ["ab", target]
    if needed is None:
        model.fit(rows, targets)
        return
    message = f"target 1 of {len(target)} labels needs {needed} events, but has 4 inputs; leave it out"
    with pytest.raises(UsageError, match=message):
        model.fit(rows, targets)
    assert not hasattr(model, "stack_")


def test_a_target_that_the_top_levels_events_cannot_express_is_named():
    head = RecurrentHead(steps=1)
    model = HistoryTranscriber((4,), gate=GateRule("rate", 0.05), steps=5, head=head, random_state=0)
    rows, targets = [np.sin(np.arange(40) / 3 + k) for k in range(3)], ["ab", "ab" * 15, "ab"]
    with pytest.raises(
        UsageError, match=r"target 1 .* events at the level that transcribes; give features='all'"
    ):
        model.set_params(levels=(4, 4)).fit(rows, targets)


# ---- files -------------------------------------------------------------------------------------------


def test_labelled_lines_and_folders(tmp_path):
    file = tmp_path / "cases.tsv"
    file.write_bytes(b"a\tone\tmore\r\n\nb\t\xff\n")
    assert read_labelled(file) == ([b"one\tmore", b"\xff"], ["a", "b"])
    for name in "xy":
        (tmp_path / "cases" / name).mkdir(parents=True)
        (tmp_path / "cases" / name / "1").write_bytes(name.encode())
    assert read_labelled(tmp_path / "cases") == ([b"x", b"y"], ["x", "y"])


@pytest.mark.parametrize(
    ("row", "words"),
    [(b"no tab", "no tab"), (b"\tx", "no label"), (b"x\t", "no sequence"), (b"\xff\tx", "no UTF-8")],
)
def test_bad_rows_are_named(tmp_path, row, words):
    file = tmp_path / "cases.tsv"
    file.write_bytes(b"a\tb\n" + row + b"\n")
    with pytest.raises(CorpusError, match=f"line 2 .*{words}"):
        read_labelled(file)


# ---- rows of very different lengths ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [
        ([5, 3, 4], [[1, 2, 0]]),
        ([50] * 9 + [5000], [[*range(9)], [9]]),
        ([900, 39] + [40] * 60, [[1, *range(2, 62)], [0]]),
        ([7], [[0]]),
        ([0, 0], [[0, 1]]),
        ([], []),
    ],
)
def test_rows_of_like_length_are_read_together(lengths, parts):
    assert of_like_length(lengths) == parts


@pytest.mark.parametrize("long", [8, 4000])
def test_one_long_case_makes_the_others_no_longer(long):
    """Each batch is the same mean of losses, read in parts that hold little filling."""
    head = RecurrentHead(steps=3, batch_size=64, learning_rate=0.1)
    net, weight = CaseNet(SYMBOLS, 0.0), torch.nn.Parameter(torch.zeros(64))
    net.register_parameter("weight", weight)
    lengths = [8] * 63 + [long]
    readings = [[Reading(np.zeros(n, np.int64), np.arange(n))] for n in lengths]
    filled: list[int] = []
    gradients: list[Any] = []
    weight.register_hook(gradients.append)

    def loss(rows, picked):
        filled.append(len(rows) * max(len(row[0].at) for row in rows))
        return (weight[picked] * picked).mean()

    head.train(net, readings, loss, np.random.default_rng(0))
    assert sum(filled) == 3 * sum(lengths)
    assert len(gradients) == 3
    for gradient in gradients:
        assert torch.allclose(gradient, torch.arange(64) / 64)
