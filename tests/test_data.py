"""The data of the experiments: rules of each task, seeds, streams, entropies."""

from __future__ import annotations

import doctest
import itertools
import math
import tracemalloc

import numpy as np
import pytest

import chunker.data
from chunker.data import (
    Adding,
    Automaton,
    EmbeddedReber,
    FirstSymbol,
    HiddenMarkov,
    Lag,
    Lag20,
    MarkovChain,
    Nested,
    ReberSource,
    TemporalOrder,
    legal_next,
    stream,
)
from chunker.data.longlag import EMBEDDED_REBER, REBER, REBER_ALPHABET, follow
from chunker.errors import UsageError

TASKS = [
    Lag20(),
    Lag(1),
    Lag(7),
    Lag(9, period=3),
    Lag(9, random=True),
    Lag(50, period=5, random=True),
    Automaton(),
    Automaton(run=20),
    Nested(),
    Nested(fillers=2, words=1),
    EmbeddedReber(),
    TemporalOrder(),
    TemporalOrder(low=10, high=10),
    TemporalOrder(low=1000, high=1100),
    FirstSymbol(),
    FirstSymbol(3, jumps=0),
]
SOURCES = [
    MarkovChain(2, order=0),
    MarkovChain(4),
    MarkovChain(3, order=4, seed=5, concentration=0.2),
    MarkovChain(10, order=3, seed=1),  # its stationary distribution is iterated
    HiddenMarkov(1, 3),
    HiddenMarkov(4, 8, seed=3),
    ReberSource(),
]


def seeded(seed=0):
    return np.random.default_rng(seed)


def names(task, case):
    return [task.alphabet[s] for s in case.symbols]


def cases(task, count=200, seed=0):
    rng = seeded(seed)
    return [task.sample(rng) for _ in range(count)]


# ---- what all tasks share --------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_every_case_is_of_its_task(task):
    assert len(set(task.alphabet)) == len(task.alphabet)
    assert task.symbols == len(task.alphabet) + task.classes
    labels = set()
    for case in cases(task):
        assert case.symbols.dtype == case.targets.dtype == np.int64
        assert case.symbols.min() >= 0
        assert case.symbols.max() < len(task.alphabet)
        assert (case.label is None) == (task.classes == 0)
        assert len(case.targets) == (task.classes == 0)
        labels.add(case.label)
    assert labels == (set(range(task.classes)) if task.classes else {None})


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_a_stream_is_its_cases(task):
    whole = stream(task, 20, seeded())
    singles = cases(task, 20)
    assert len(whole.starts) == 20
    assert len(whole.labels) == (20 if task.classes else 0)
    ends = [*whole.starts[1:], len(whole.symbols)]
    scored = []
    for i, (case, start, end) in enumerate(zip(singles, whole.starts, ends, strict=True)):
        n = len(case.symbols)
        np.testing.assert_array_equal(whole.symbols[start : start + n], case.symbols)
        scored += (start + case.targets).tolist()
        if case.label is not None:
            assert whole.labels[i] == case.label
            assert whole.symbols[start + n] == len(task.alphabet) + case.label
            scored.append(start + n)
        assert end == start + n + (case.label is not None)
    assert whole.targets.tolist() == scored
    assert whole.symbols.max() < task.symbols


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_the_seed_decides(task):
    one, same, other = (stream(task, 40, seeded(seed)).symbols for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_both_or_all_outcomes_are_about_equally_likely(task):
    found = cases(task, 2000)
    outcomes = [c.label if task.classes else int(c.symbols[c.targets[0]]) for c in found]
    counts = [outcomes.count(outcome) for outcome in set(outcomes)]
    assert len(counts) == (task.classes or 2)
    assert min(counts) > 0.85 * 2000 / len(counts)


def test_the_example_in_the_docstring():
    done = doctest.testmod(chunker.data)
    assert done.attempted
    assert not done.failed


def test_all_public_names_are_there():
    assert all(hasattr(chunker.data, name) for name in chunker.data.__all__)


# ---- tasks of symbols ------------------------------------------------------------------------------


def test_lag_20():
    task = Lag20()
    assert task.symbols == 24
    for case in cases(task):
        assert names(task, case) == ["a" if case.label else "x", *(f"b{i}" for i in range(1, 21))]


@pytest.mark.parametrize(
    ("task", "fillers"),
    [
        (Lag(1), ""),
        (Lag(4), "f1 f2 f3"),
        (Lag(6, period=2), "f1 f2 f1 f2 f1"),
        (Lag(3, period=9), "f1 f2"),
    ],
)
def test_lag_in_a_fixed_order(task, fillers):
    for case in cases(task, 20):
        first, *middle, last = names(task, case)
        assert first == last
        assert first in "xy"
        assert middle == fillers.split()
        assert case.targets.tolist() == [task.length]


def test_lag_with_random_fillers():
    task = Lag(11, random=True)
    assert task.symbols == 12
    found = cases(task)
    middles = np.array([case.symbols[1:-1] for case in found])
    assert set(middles.ravel().tolist()) == set(range(2, 12))
    assert len(np.unique(middles, axis=0)) == len(found)
    assert all(case.symbols[0] == case.symbols[-1] for case in found)


@pytest.mark.parametrize("size", [1, 2, 7, 50, 51, 52, 1000])
@pytest.mark.parametrize(
    "task",
    [
        Lag(1),
        Lag(50),
        Lag(50, period=7),
        Lag(50, random=True),
        Lag(3, period=4, random=True),
        Lag(9, 1, True),
    ],
    ids=repr,
)
def test_chunks_are_the_stream(task, size):
    whole, rng = stream(task, 11, seeded(3)), seeded(3)
    pieces = list(task.chunks(rng, 11, size))
    assert all(len(symbols) == size for symbols, _ in pieces[:-1])
    assert 1 <= len(pieces[-1][0]) <= size
    np.testing.assert_array_equal(np.concatenate([symbols for symbols, _ in pieces]), whole.symbols)
    scored = np.concatenate([targets + i * size for i, (_, targets) in enumerate(pieces)])
    np.testing.assert_array_equal(scored, whole.targets)
    both = seeded(3)
    stream(task, 11, both)
    assert rng.random() == both.random()  # what is drawn next is the same too


@pytest.mark.parametrize("random", [False, True])
def test_chunks_of_a_great_lag_need_little_memory(random):
    task = Lag(10_000_000, period=10, random=random)
    tracemalloc.start()
    try:
        total, scored = 0, 0
        for symbols, targets in itertools.islice(task.chunks(seeded(), 10**9, 10_000), 300):
            total, scored = total + len(symbols), scored + len(targets)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (total, scored) == (3_000_000, 0)
    assert peak < 2_000_000  # the lag's symbols would take 80 million


def test_the_greatest_lag_without_a_period():
    assert Lag(60_001).symbols == 60_002
    with pytest.raises(UsageError, match="give a period"):
        Lag(60_002)
    assert Lag(10**12, period=60_000).symbols == 60_002


@pytest.mark.parametrize("run", [1, 3, 20])
def test_automaton(run):
    task = Automaton(run=run)
    befores = set()
    for case in cases(task):
        assert len(case.symbols) % run == 0
        letters = case.symbols.reshape(-1, run)
        assert (letters == letters[:, :1]).all()
        text = "".join(task.alphabet[s] for s in letters[:, 0])
        rest = text.lstrip("a")
        befores.add(len(text) - len(rest))
        assert rest[0] == ("e" if case.label else "b")
        assert rest[1:-1]
        assert set(rest[1:-1]) == {"c"}
        assert rest[-1] == "d"
    assert {0, 1, 2} <= befores


def test_nested():
    task = Nested(fillers=2, words=3)
    for case in cases(task, 20):
        first, *middle, last = names(task, case)
        assert first == last
        assert first in "xy"
        assert " ".join(middle) == "m1 f1 f2 m2 f1 f2 m3 f1 f2"
        assert case.targets.tolist() == [10]


# ---- tasks of the long-time-lag literature ---------------------------------------------------------


def test_embedded_reber_strings_are_legal():
    task = EmbeddedReber()
    lengths = set()
    for case in cases(task, 500):
        n = len(case.symbols)
        lengths.add(n)
        assert case.targets.tolist() == [n - 2]
        assert case.symbols[-2] == case.symbols[1]
        inner = case.symbols[2:-2]
        nodes = follow(REBER, inner)
        assert nodes[-1] == 0
        assert (nodes[1:-1] > 0).all()
    assert min(lengths) == 9
    assert max(lengths) > 20


@pytest.mark.parametrize("text", ["BTSSXXTVVE", "BPVPXVVE", "BTXSE", "BPVVE", "BPTTVPSE"])
def test_reber_strings_of_the_literature(text):
    symbols = [REBER_ALPHABET.index(s) for s in text]
    assert follow(REBER, symbols)[-1] == 0
    for key in (1, 2):
        assert follow(EMBEDDED_REBER, [0, key, *symbols, key, 6])[-1] == 0
        assert follow(EMBEDDED_REBER, [0, key, *symbols, 3 - key, 6])[-1] == -1


def test_legal_next():
    symbols = [REBER_ALPHABET.index(s) for s in "BPBTXSEPEBT"]
    legal = ["".join(REBER_ALPHABET[i] for i in np.flatnonzero(row)) for row in legal_next(symbols)]
    assert legal == ["TP", "B", "TP", "SX", "SX", "E", "P", "E", "B", "TP", "B"]
    assert legal_next([]).shape == (0, 7)


def test_legal_next_allows_what_comes_next():
    whole = stream(EmbeddedReber(), 100, seeded())
    mask = legal_next(whole.symbols)
    assert mask.shape == (len(whole.symbols), 7)
    assert mask[np.arange(len(mask) - 1), whole.symbols[1:]].all()
    assert (mask[whole.targets - 1].sum(1) == 1).all()


def test_legal_next_refuses_other_strings():
    with pytest.raises(UsageError, match=r"position 2 .*first symbol"):
        legal_next([0, 1, 1])
    with pytest.raises(UsageError, match="position 0"):
        legal_next([9])


@pytest.mark.parametrize("length", [12, 100])
def test_adding(length):
    task, rng = Adding(length), seeded()
    counts, lengths = set(), set()
    for _ in range(500):
        case = task.sample(rng)
        n = len(case.inputs)
        lengths.add(n)
        assert case.inputs.dtype == np.float32
        assert case.inputs.shape == (n, 2)
        values, markers = case.inputs.T
        assert np.abs(values).max() <= 1
        assert markers[0] == markers[-1] == -1
        marked = np.flatnonzero(markers == 1)
        counts.add(len(marked))
        assert set(np.unique(markers)) <= {-1, 0, 1}
        assert np.count_nonzero(markers == -1) == 2
        assert marked[0] < max(10, length // 2)
        assert marked[-1] < max(10, length // 2)
        assert case.target == pytest.approx(0.5 + values[marked].sum() / 4, abs=1e-6)
    assert counts == {1, 2}  # one where the first pair was drawn
    assert lengths == set(range(length, length + length // 10 + 1))


@pytest.mark.parametrize(
    ("task", "firsts", "seconds"),
    [
        (TemporalOrder(), (10, 20), (50, 60)),
        (TemporalOrder(20, 22), (2, 4), (10, 12)),
        (TemporalOrder(10, 10), (1, 2), (5, 6)),
    ],
)
def test_temporal_order(task, firsts, seconds):
    ones, twos, lengths = set(), set(), set()
    for case in cases(task, 600):
        text = "".join(names(task, case))
        lengths.add(len(text))
        assert text[0] == "E"
        assert text[-1] == "B"
        assert set(text[1:-1]) <= set("abcdXY")
        one, two = (i for i, s in enumerate(text) if s in "XY")
        ones.add(one)
        twos.add(two)
        assert ["XX", "XY", "YX", "YY"].index(text[one] + text[two]) == case.label
    assert (min(ones), max(ones)) == firsts
    assert (min(twos), max(twos)) == seconds
    assert (min(lengths), max(lengths)) == (task.low, task.high)


@pytest.mark.parametrize(("length", "jumps"), [(100, 8), (5, 3), (1000, 0)])
def test_only_the_first_symbol_tells_the_class(length, jumps):
    task, rng = FirstSymbol(length, jumps), seeded()
    for _ in range(50):
        case = task.sample(rng)
        assert len(case.symbols) == length
        assert case.symbols[0] - 10 == case.label
        digits = case.symbols[1:]
        assert digits.max() < 10
        assert np.count_nonzero((digits[:-1] + 1) % 10 != digits[1:]) <= jumps


# ---- sources ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_samples(source):
    one, same, other = (source.sample(70_000, seeded(seed)) for seed in (1, 1, 2))
    assert one.dtype == np.uint8
    assert one.shape == (70_000,)
    assert one.max() < source.symbols
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert source.sample(0, seeded()).shape == (0,)
    assert len(source.sample(1, seeded())) == 1


@pytest.mark.parametrize("source", SOURCES, ids=repr)
def test_a_sample_costs_the_entropy(source):
    n = 100_000
    bits = source.ideal_bits(source.sample(n, seeded(4))) / n
    assert bits == pytest.approx(source.entropy_bits, abs=0.02)
    assert 0 < source.entropy_bits < math.log2(source.symbols)
    assert source.ideal_bits(np.empty(0, np.uint8)) == 0


@pytest.mark.parametrize(
    "source",
    [
        MarkovChain(3, order=0),
        MarkovChain(3),
        MarkovChain(3, order=2),
        MarkovChain(2, order=6),
        HiddenMarkov(3, 3),
    ],
    ids=repr,
)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_probabilities_of_all_sequences_add_up_to_one(source, n):
    total = sum(2 ** -source.ideal_bits(s) for s in itertools.product(range(source.symbols), repeat=n))
    assert total == pytest.approx(1)


def test_the_entropy_of_a_small_chain():
    """Two states: the stationary distribution is known in closed form."""
    chain = MarkovChain(2, order=1, seed=7)
    (_, leave), (back, _) = chain.table

    def h(p):
        return -p * math.log2(p) - (1 - p) * math.log2(1 - p)

    assert chain.entropy_bits == pytest.approx((back * h(leave) + leave * h(back)) / (leave + back))


@pytest.mark.parametrize(
    "chain", [MarkovChain(2, order=3, seed=2), MarkovChain(10, order=3, seed=2)], ids=["solved", "iterated"]
)
def test_the_entropy_of_a_chain_of_higher_order(chain):
    """From the distribution after many steps, moved context by context."""
    base, contexts = chain.symbols, len(chain.table)
    pi = np.full(contexts, 1 / contexts)
    target = (np.arange(contexts)[:, None] * base + np.arange(base)) % contexts
    for _ in range(400):
        pi = np.bincount(target.ravel(), (pi[:, None] * chain.table).ravel(), minlength=contexts)
    np.testing.assert_allclose(pi, chain.stationary, atol=1e-9)
    entropy = sum(-w * p * math.log2(p) for w, row in zip(pi, chain.table, strict=True) for p in row if p)
    assert chain.entropy_bits == pytest.approx(entropy)


def test_a_sample_follows_the_table():
    chain = MarkovChain(3, order=2, seed=1)
    s = chain.sample(200_000, seeded()).astype(int)
    counts = np.bincount((s[:-2] * 3 + s[1:-1]) * 3 + s[2:], minlength=27).reshape(9, 3)
    share = counts / counts.sum(1, keepdims=True)
    often = counts.sum(1) > 1000
    assert often.sum() > 3
    np.testing.assert_allclose(share[often], chain.table[often], atol=0.05)
    np.testing.assert_allclose(counts.sum(1) / counts.sum(), chain.stationary, atol=0.01)


def test_the_forward_algorithm_against_all_paths():
    model, symbols = HiddenMarkov(3, 4, seed=1), [0, 3, 1, 1, 2]
    total = 0.0
    for path in itertools.product(range(3), repeat=5):
        p = model.stationary[path[0]]
        for i, (state, symbol) in enumerate(zip(path, symbols, strict=True)):
            p *= model.emits[state, symbol] * (model.moves[state, path[i + 1]] if i < 4 else 1)
        total += p
    assert model.ideal_bits(symbols) == pytest.approx(-math.log2(total))


def test_the_entropy_of_a_hidden_markov_model_lies_between_its_bounds():
    """H(next | past symbols and first state) <= rate <= H(next | past symbols), Cover & Thomas 4.5."""
    model = HiddenMarkov(3, 2, seed=2)

    def block(n, start):
        steps = [model.moves * model.emits[:, [s]] for s in range(2)]
        rows = [start]
        for _ in range(n):
            rows = [row @ step for row in rows for step in steps]
        p = np.array([row.sum() for row in rows])
        return float(-(p * np.log2(p)).sum())

    upper = block(12, model.stationary) - block(11, model.stationary)
    unit = np.eye(3)
    lower = sum(w * (block(12, e) - block(11, e)) for w, e in zip(model.stationary, unit, strict=True))
    error = model.entropy_error_bits
    assert 0 < error < 0.01
    assert lower - 4 * error <= model.entropy_bits <= upper + 4 * error
    assert upper - lower < 0.02


def test_one_state_has_no_memory():
    model = HiddenMarkov(1, 3, seed=4)
    assert model.entropy_bits == pytest.approx(-(model.emits * np.log2(model.emits)).sum())
    assert model.entropy_error_bits < 1e-12


def test_reber_entropy_against_all_strings():
    """Entropy of a string over its mean length; strings of 200 symbols or more hardly occur."""
    alive = {0: (1.0, 0.0)}  # node -> probability of being there after t symbols, and that times -log2 of it
    entropy = length = 0.0
    for t in range(1, 200):
        after: dict[int, tuple[float, float]] = {}
        for node, (p, plog) in alive.items():
            k = len(REBER[node])
            for to in REBER[node].values():
                q, qlog = after.get(to, (0.0, 0.0))
                after[to] = q + p / k, qlog + (plog + p * math.log2(k)) / k
        ended, bits = after.pop(0, (0.0, 0.0))
        entropy, length = entropy + bits, length + t * ended
        alive = after
    assert ReberSource().entropy_bits == pytest.approx(entropy / length)


def test_reber_source_gives_whole_strings():
    source = ReberSource()
    text = "".join(source.alphabet[s] for s in source.sample(20_000, seeded()))
    strings = text.split("E")[:-1]
    assert len(strings) > 1000
    for string in strings:
        assert follow(REBER, [REBER_ALPHABET.index(s) for s in string + "E"])[-1] == 0
    assert source.ideal_bits([0, 0]) == math.inf
    assert source.ideal_bits([0, 1, 4, 3, 6]) == 3


def test_what_is_impossible_costs_infinitely_many_bits():
    chain, model = MarkovChain(3, order=2), HiddenMarkov(2, 3)
    chain.table[:, 1] = model.emits[:, 1] = 0
    for source in (chain, model):
        assert source.ideal_bits([0, 2, 1, 0, 2]) == math.inf
        assert source.ideal_bits([0, 2, 0, 0, 2]) < math.inf


def test_the_seed_of_a_source_decides_its_tables():
    assert np.array_equal(MarkovChain(4, 2, seed=1).table, MarkovChain(4, 2, seed=1).table)
    assert not np.array_equal(MarkovChain(4, 2, seed=1).table, MarkovChain(4, 2, seed=2).table)
    assert np.array_equal(HiddenMarkov(4, 2, seed=1).moves, HiddenMarkov(4, 2, seed=1).moves)
    assert not np.array_equal(HiddenMarkov(4, 2, seed=1).moves, HiddenMarkov(4, 2, seed=2).moves)


# ---- arguments that cannot be used -----------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Lag(0),
        lambda: Lag(2.5),  # type: ignore[arg-type]
        lambda: Lag(True),
        lambda: Lag("7"),  # type: ignore[arg-type]
        lambda: Lag(10**6),
        lambda: Lag(10**6, random=True),
        lambda: Lag(5, period=0),
        lambda: Lag(5, period=60_001),
        lambda: Lag(5).chunks(seeded(), 0, 10),
        lambda: Lag(5).chunks(seeded(), 10, 0),
        lambda: Automaton(run=0),
        lambda: Nested(fillers=0),
        lambda: Nested(words=0),
        lambda: Nested(fillers=50_000, words=50_000),
        lambda: Adding(11),
        lambda: TemporalOrder(low=9),
        lambda: TemporalOrder(low=100, high=99),
        lambda: FirstSymbol(2),
        lambda: FirstSymbol(20, jumps=19),
        lambda: stream(Lag20(), 0, seeded()),
        lambda: MarkovChain(1),
        lambda: MarkovChain(257),
        lambda: MarkovChain(2, order=-1),
        lambda: MarkovChain(256, order=3),
        lambda: MarkovChain(2, seed=-1),
        lambda: MarkovChain(2, concentration=0),
        lambda: MarkovChain(2, concentration=math.nan),
        lambda: MarkovChain(2).sample(-1, seeded()),
        lambda: MarkovChain(2).ideal_bits([0, 2]),
        lambda: MarkovChain(2).ideal_bits([0, -1]),
        lambda: MarkovChain(2).ideal_bits([0.5]),
        lambda: MarkovChain(2).ideal_bits([[0]]),
        lambda: HiddenMarkov(0, 2),
        lambda: HiddenMarkov(2, 1),
        lambda: HiddenMarkov(2, 2, concentration=-1),
        lambda: HiddenMarkov(2, 2).ideal_bits([2]),
        lambda: ReberSource().sample(2.0, seeded()),  # type: ignore[arg-type]
        lambda: ReberSource().ideal_bits([7]),
    ],
)
def test_refused(wrong):
    with pytest.raises(UsageError, match=r"choose|give") as caught:
        wrong()
    assert "\n" not in str(caught.value)
