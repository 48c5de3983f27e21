"""The integer model: exact against plain integers, close to the float stack, independent of lanes."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_levels import KINDS, PlainLevel, PlainStack, some_tensors

from chunker.config import TIME_BOUNDS, TIME_BUCKETS, GateRule, NGrams, StackConfig, Wake
from chunker.core import predictions, products, tables
from chunker.core.cells import sigmoid, tanh
from chunker.core.layout import MATRICES, float_shapes, integer_layout, kind
from chunker.core.levels import IntegerStack, time_bucket
from chunker.core.quantize import LOGIT_UNIT, dequantize, quantize
from chunker.errors import NotAModel, UsageError
from chunker.models import load_model, save_model

CELLS = ("rnn", "gru", "lstm")
NGRAMS = NGrams(orders=(1, 2, 4), rows=16, width=6)


def random_tensors(config, seed=0):
    """A stack that predicts something: random weights of the size that training reaches."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in float_shapes(config).items():
        scale = 1.0 if name.endswith(("symbol_input", "readout")) else 0.2
        tensors[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    tensors["thresholds_bits"] = np.full(len(config.levels) - 1, 2.5, dtype=np.float32)
    return tensors


def integer_stack(seed=0, **fields):
    config = StackConfig(**{"levels": (12, 10, 9), "symbols": 11, "ngrams": NGRAMS, **fields})
    tensors = random_tensors(config, seed)
    for name in tensors:
        if name.endswith("time_readout_bias"):
            tensors[name][:3] += 5  # or hardly any time would be expected
    return IntegerStack(config, quantize(tensors))


def run(stack, symbols):
    """The probabilities, (T, B, V), before each of symbols (T, B); and the ticks."""
    session = stack.session(symbols.shape[1])
    rows = []
    for row in symbols:
        rows.append(session.probabilities())
        session.update(row)
    return np.stack(rows), session.ticks


def some_symbols(T, B, V=11, seed=1):
    return np.random.default_rng(seed).integers(0, V, (T, B))


# ---- tables -----------------------------------------------------------------------------------------


def test_the_tables_are_those_of_every_machine():
    assert tables.digest() == products.TABLES_DIGEST


@pytest.mark.parametrize("position", [0, 1, 700, 3071, 3072, 3073, 5000, 6144])
def test_sigmoid_is_rounded_correctly(position):
    with localcontext() as context:
        context.prec = 60
        x = Decimal(position) / tables.STEPS - tables.SIGMOID_REACH
        exact_value = min(2**15 / (1 + (-x).exp()), Decimal(2**15 - 1))
        assert abs(int(tables.sigmoid_table()[position]) - exact_value) <= Decimal("0.5")


@pytest.mark.parametrize("position", [0, 1, 700, 1535, 1536, 1537, 2500, 3072])
def test_tanh_is_rounded_correctly(position):
    with localcontext() as context:
        context.prec = 60
        x = Decimal(position) / tables.STEPS - tables.TANH_REACH
        exact_value = 2**15 * (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())
        exact_value = max(min(exact_value, Decimal(2**15 - 1)), Decimal(1 - 2**15))
        assert abs(int(tables.tanh_table()[position]) - exact_value) <= Decimal("0.5")


def test_weights_halve_every_128_steps():
    table = tables.weight_table()
    assert table[0] == 2**23
    assert table[-1] == 1
    assert np.array_equal(table[:: tables.LOG_STEPS], 2 ** np.arange(23, -1, -1))
    assert (np.diff(table) <= 0).all()


def test_sigmoid_and_tanh_look_up_the_nearest_entry():
    """2**-11 is an eighth of an entry; beyond the tables their ends hold."""
    a = np.array([0, 3, 4, 8, -4, -5, -12, 2**28, -(2**28), 5 * 2**11])
    nearest = [0, 0, 1, 1, 0, -1, -1, 10**6, -(10**6), 5 * 256]
    for function, table, reach in (
        (sigmoid, tables.sigmoid_table(), tables.SIGMOID_REACH),
        (tanh, tables.tanh_table(), tables.TANH_REACH),
    ):
        middle = reach * tables.STEPS
        at = np.clip(np.array(nearest), -middle, middle) + middle
        assert function(a.astype(np.int32)).tolist() == table[at].tolist()


# ---- products ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from([1, 7, 300, 1040, 1041, 2000]), st.integers(1, 9), st.integers(1, 5), st.integers(0, 999)
)
def test_products_are_exact_at_the_bound(inner, columns, rows, seed):
    rng = np.random.default_rng(seed)
    q = rng.choice(np.array([-127, -126, 126, 127], dtype=np.int8), (inner, columns))
    most = (2**50 - 1) // (127 * np.abs(q.astype(np.int64)).sum(0))
    multiplier = np.minimum(most, 2**31 - 1).astype(np.int32)
    for x8 in (rng.integers(-127, 128, (rows, inner)), 127 * np.sign(q[:, 0]) * np.ones((rows, 1), int)):
        exact = (x8.astype(object) @ q.astype(object) * multiplier.astype(object) + 2**23) // 2**24
        found = products.Matrix(q, multiplier)(x8.astype(np.int32))
        assert np.array_equal(found, exact)
        assert np.abs(found).max() <= 2**26


def test_products_round_to_the_nearest_and_halves_upwards():
    one = np.array([[1]], dtype=np.int8)
    for multiplier, x, rounded in [(2**23, 1, 1), (2**23, -1, 0), (2**23 - 1, 1, 0), (3 * 2**23, -1, -1)]:
        matrix = products.Matrix(one, np.array([multiplier], dtype=np.int32))
        assert matrix(np.array([[x]], dtype=np.int32)).tolist() == [[rounded]]


def test_a_row_of_a_table_is_the_product_with_one():
    q = np.array([[127, -127, 5, -5]], dtype=np.int8)
    multiplier = np.array([2**31 - 1, 2**31 - 1, 2**16, 3 * 2**17], dtype=np.int32)
    rows = products.table(q, multiplier)
    assert rows.tolist() == [
        [(int(x) * int(m) + 2**16) // 2**17 for x, m in zip(q[0], multiplier, strict=True)]
    ]


def test_states_enter_products_rounded_to_seven_bits():
    h = np.array([0, 127, 128, -128, -129, 32767, -32767, 256 * 5], dtype=np.int32)
    assert products.narrow(h).tolist() == [0, 0, 1, 0, -1, 127, -127, 5]


def test_without_exact_float_products_the_integers_give_the_same(monkeypatch):
    stack, symbols = integer_stack(), some_symbols(20, 3)
    fast, _ = run(stack, symbols)
    monkeypatch.setattr(products, "check_machine", lambda: False)
    slow, _ = run(stack, symbols)
    assert np.array_equal(fast, slow)


# ---- predictions ------------------------------------------------------------------------------------


def some_logits(rng, shape, spread):
    return np.clip(rng.standard_normal(shape) * spread, -(2**30), 2**30).astype(np.int32)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(2, 300),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1.0, 50.0, 500.0, 5e4, 1e8, 1e12]),
)
def test_weights_are_positive_and_bounded(symbols, seed, spread):
    logits = some_logits(np.random.default_rng(seed), (5, symbols), spread)
    pmf = predictions.unnormalized_pmf(logits)
    assert pmf.weights.dtype == np.int64
    assert (pmf.weights >= 1).all()
    assert (pmf.weights.max(1) == 2**23).all()
    assert (pmf.weights[np.arange(5), pmf.best] == 2**23).all()
    assert (pmf.total[:, 0] == pmf.weights.sum(1)).all()


@settings(deadline=None, max_examples=100)
@given(
    st.integers(2, 40), st.integers(0, 2**32 - 1), st.sampled_from(["argmax", "surprise"]), st.floats(0.1, 9)
)
def test_combined_probabilities_are_positive_and_complete(symbols, seed, rule, bits):
    rng = np.random.default_rng(seed)
    levels = [
        predictions.unnormalized_pmf(some_logits(rng, (4, symbols), spread)) for spread in (300, 2000, 30)
    ]
    limits = [predictions.threshold(int(bits * 128))] * 2
    rows = predictions.combined(levels, rule, limits)
    assert (rows > 0).all()
    assert rows.sum(1) == pytest.approx(np.ones(4))
    settled = predictions.expected(levels[0], rule, limits[0])
    assert np.array_equal(rows[settled], (levels[0].weights / levels[0].total)[settled])


def test_the_cost_of_a_symbol_is_what_the_logits_say():
    logits = some_logits(np.random.default_rng(3), (50, 256), 300)
    pmf = predictions.unnormalized_pmf(logits)
    bits = -np.log2(pmf.weights / pmf.total)
    true = logits.astype(np.float64) / 128
    true = np.log2(np.exp2(true).sum(1, keepdims=True)) - true
    likely = true < 12
    assert np.abs(bits - true)[likely].max() < 0.02


@pytest.mark.parametrize("steps", [0, 1, 127, 128, 129, 200, 256, 2944, 2945, 10_000])
def test_a_gate_compares_integers(steps):
    """Two symbols at exactly 1/2 and four at exactly 1/4 are on the very threshold."""
    limit = predictions.threshold(steps)
    rng = np.random.default_rng(steps)
    rows = [[0, 0], [0, -1], [5, 5, 5, 5], [0, -10_000], *some_logits(rng, (40, 7), 200).tolist()]
    for row in rows:
        pmf = predictions.unnormalized_pmf(np.array([row], dtype=np.int32))
        weights = pmf.weights[0].tolist()
        bound = int(tables.weight_table()[min(steps, 2944)])
        wanted = [
            w * 2**23 >= sum(weights) * bound and (steps > 128 or i == row.index(max(row)))
            for i, w in enumerate(weights)
        ]
        assert predictions.expected(pmf, "surprise", limit)[0].tolist() == wanted
        missed = [
            not predictions.unexpected(pmf, np.array([i]), "surprise", limit)[0] for i in range(len(row))
        ]
        assert missed == wanted


# ---- the integer model ------------------------------------------------------------------------------


def compare_with_plain(config, tensors, symbols):
    """Weights, levels that read, and states of one lane, step by step, with plain integers."""
    stack = IntegerStack(config, tensors)
    session, plain = stack.session(1), PlainStack(config, tensors)
    for symbol in map(int, symbols):
        assert [pmf.weights[0].tolist() for pmf in session.pmfs()] == plain.weights()
        rows = session.read(np.array([symbol]))
        assert [level for level, lanes in enumerate(rows) if len(lanes)] == plain.read(symbol)
        for level, reference in enumerate(plain.levels):
            h = reference.h + (reference.c if config.cell == "lstm" else [])
            assert session.hidden(level)[0, : len(h)].tolist() == h
            assert max(map(abs, reference.h)) <= 32767
    return [len(level.symbols) for level in plain.levels]


@pytest.mark.parametrize("size", KINDS)
@pytest.mark.parametrize("ngrams", [None, NGRAMS], ids=["bare", "ngrams"])
@pytest.mark.parametrize("mode", ["joint", "faithful"])
@pytest.mark.parametrize("cell", CELLS)
def test_it_is_the_plain_one(cell, mode, ngrams, size):
    for seed, rule in enumerate([GateRule("argmax"), GateRule("surprise", 1.0)]):
        config = StackConfig((7, 5, 4), cell, mode, 11, rule, ngrams=ngrams)
        compare_with_plain(config, some_tensors(config, seed, size), some_symbols(30, 1, seed=seed)[:, 0])


@pytest.mark.parametrize("cell", CELLS)
def test_one_that_reads_where_words_end_is_the_plain_one(cell):
    config = StackConfig((7, 5), cell, gate=GateRule("word"))
    ticks = compare_with_plain(config, some_tensors(config, 0, KINDS[0]), b"It was 1991, \xc3\xa0 Munich.")
    assert ticks == [23, 11]


@pytest.mark.parametrize("mode", ["joint", "faithful"])
@pytest.mark.parametrize("cell", CELLS)
def test_one_that_predicts_is_the_plain_one(cell, mode):
    """Weights such as training makes, and symbols of which many are expected."""
    for rule in (GateRule("argmax"), GateRule("surprise", 1.0)):
        config = StackConfig((12, 10, 9), cell, mode, 11, rule, ngrams=NGRAMS)
        tensors = quantize(sharp_tensors(config))
        session, symbols = IntegerStack(config, tensors).session(1), []
        for t in range(80):
            symbols.append(int(session.expected(0)[0] + (t % 4 == 0)) % 11)
            session.update(np.array(symbols[-1:]))
        ticks = compare_with_plain(config, tensors, symbols)
        assert ticks[0] > ticks[1] >= ticks[2] > 0


def sharp_tensors(config, seed=0):
    tensors = random_tensors(config, seed)
    for name in tensors:
        if name.endswith(".readout"):
            tensors[name] *= 3
        if name.endswith("time_readout_bias"):
            tensors[name].reshape(-1, TIME_BUCKETS)[:, :4] += 5
    return tensors


@pytest.mark.parametrize("size", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_level_that_slept_is_told_of_it(cell, size):
    config = StackConfig((6, 5), cell, ngrams=NGRAMS, wake=Wake(slept=True, guess=True))
    tensors, rng = some_tensors(config, 0, size), np.random.default_rng(1)
    level, plain = IntegerStack(config, tensors).levels[0], PlainLevel(config, 0, tensors)
    h, c = np.zeros((1, 6), dtype=np.int32), np.zeros((1, 6), dtype=np.int64) if cell == "lstm" else None
    assert level.ngrams is not None
    for _ in range(20):
        symbol, bucket = int(rng.integers(256)), int(rng.integers(TIME_BUCKETS))
        guess, sure = int(rng.integers(257)), int(rng.integers(16))
        plain.step(symbol, bucket, [], guess, sure)
        one = partial(np.full, 1)
        code = np.array([plain.code()], dtype=np.int32)
        h, c = level.step(h, c, one(symbol), one(bucket), code, one(guess), one(sure))
        assert h[0].tolist() == plain.h
        assert c is None or c[0].tolist() == plain.c


@pytest.mark.parametrize("cell", CELLS)
def test_in_a_session_no_level_ever_slept(cell):
    config = StackConfig((6, 5), cell, ngrams=NGRAMS, wake=Wake(slept=True, guess=True, catch_up=3))
    compare_with_plain(config, some_tensors(config, 0, "random"), some_symbols(30, 1)[:, 0])
    with pytest.raises(UsageError, match="256 symbols"):
        StackConfig((6,), symbols=11, wake=Wake(guess=True))


@pytest.mark.parametrize("mode", ["joint", "faithful"])
@pytest.mark.parametrize("cell", CELLS)
def test_lanes_do_not_influence_one_another(cell, mode):
    stack, symbols = integer_stack(cell=cell, mode=mode), some_symbols(60, 5)
    together, ticks = run(stack, symbols)
    alone = [run(stack, symbols[:, lane : lane + 1]) for lane in range(5)]
    assert np.array_equal(together, np.concatenate([rows for rows, _ in alone], 1))
    assert np.array_equal(ticks, sum(t for _, t in alone))
    assert ticks[0] > ticks[1] > ticks[2] > 0


def test_dropped_lanes_leave_the_others_as_they_were():
    stack, symbols = integer_stack(), some_symbols(40, 4)
    whole, _ = run(stack, symbols)
    session = stack.session(4)
    for t, row in enumerate(symbols):
        if t == 20:
            session.keep(2)
        kept = 4 if t < 20 else 2
        assert np.array_equal(session.probabilities(), whole[t, :kept])
        session.update(row[:kept])


@pytest.mark.parametrize("rule", [GateRule("argmax"), GateRule("surprise", 1.0), GateRule("rate", 0.2)])
def test_the_gate_reads_the_coders_integers(rule):
    stack = integer_stack(levels=(12, 10), mode="faithful", gate=rule)
    only = IntegerStack(
        StackConfig(levels=(12,), symbols=11, mode="faithful", gate=rule, ngrams=NGRAMS),
        {k: v for k, v in quantize(random_tensors(stack.config)).items() if k.startswith("0.")}
        | {"thresholds": np.zeros(0, dtype=np.int32)},
    )
    symbols = some_symbols(200, 1)
    level0, _ = run(only, symbols)
    picked = np.take_along_axis(level0, symbols[:, :, None], 2)[:, :, 0]
    missed = level0.argmax(2) != symbols if rule.rule == "argmax" else picked < 2.0 ** (-2.5)
    missed[0] = True
    _, ticks = run(stack, symbols)
    assert ticks.tolist() == [200, int(missed.sum())]


@pytest.mark.parametrize("mode", ["joint", "faithful"])
@pytest.mark.parametrize("cell", CELLS)
def test_it_is_close_to_the_float_stack(cell, mode):
    torch = pytest.importorskip("torch")
    from chunker.learning.stack import Stack

    config = StackConfig(levels=(24, 20), symbols=11, cell=cell, mode=mode, gate=GateRule("surprise", 2.5))
    tensors = random_tensors(config)
    stack = Stack.from_tensors(config, dequantize(quantize(tensors)))
    symbols = some_symbols(400, 8)
    rows, ticks = run(IntegerStack(config, quantize(tensors)), symbols)
    integer_bits = -np.log2(np.take_along_axis(rows, symbols[:, :, None], 2)).mean()
    with torch.no_grad():
        output = stack(torch.from_numpy(symbols), stack.start(8))
        float_bits = float(stack.bits(output, torch.from_numpy(symbols)).double().mean())
    assert integer_bits == pytest.approx(float_bits, rel=0.02)
    assert ticks[1] == pytest.approx(int(output.events[1].sum()), rel=0.05)


@settings(deadline=None)
@given(st.integers(1, 2**40))
def test_time_buckets(time):
    bucket = time_bucket(time)
    assert bucket == int(np.searchsorted(np.array(TIME_BOUNDS), time))
    assert bucket == len(TIME_BOUNDS) or TIME_BOUNDS[bucket] >= time
    assert bucket == 0 or TIME_BOUNDS[bucket - 1] < time
    if time <= 8:
        assert bucket == time - 1


# ---- freezing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_freezing_fits_the_layout_and_thawing_comes_back_to_it(cell):
    config = StackConfig(levels=(7, 5), cell=cell, ngrams=NGRAMS, wake=Wake(slept=True, guess=True))
    tensors = random_tensors(config)
    frozen = quantize(tensors)
    assert {name: (t.dtype.str, t.shape) for name, t in frozen.items()} == integer_layout(config)
    floats = dequantize(frozen)
    again = quantize(floats)
    for name, tensor in frozen.items():
        if name.endswith(".multiplier"):
            assert (np.abs(tensor - again[name]) <= 1e-6 * tensor + 1).all()
        else:
            assert np.array_equal(tensor, again[name])
    for name, tensor in tensors.items():
        assert floats[name].shape == tensor.shape
        assert np.abs(floats[name] - tensor).max() <= np.abs(tensor).max(initial=0) / 127


def test_units_are_those_of_the_sums():
    """A column of ones, a state of (nearly) one and a bias of one come to the same."""
    config = StackConfig(levels=(4,), symbols=11)
    tensors = {name: np.ones(shape, dtype=np.float32) for name, shape in float_shapes(config).items()}
    frozen = quantize(tensors)
    one = np.full((1, 4), 32767, dtype=np.int32)
    for name, unit in (("recurrent", 2**11), ("readout", LOGIT_UNIT)):
        matrix = products.Matrix(frozen[f"0.{name}.q"], frozen[f"0.{name}.multiplier"])
        assert np.abs(matrix(products.narrow(one)) - 4 * unit * 127 / 128).max() <= 1
    table = products.table(frozen["0.symbol_input.q"], frozen["0.symbol_input.multiplier"])
    assert (table == 2**11).all()
    assert (frozen["0.bias"] == 2**11).all()
    assert (frozen["0.readout_bias"] == round(LOGIT_UNIT)).all()


def test_diverged_weights_are_refused():
    config = StackConfig(levels=(7,), symbols=11)
    tensors = random_tensors(config)
    tensors["0.recurrent"][0, 0] = math.nan
    with pytest.raises(NotAModel, match="not finite"):
        quantize(tensors)
    tensors["0.recurrent"][:] = 1e3
    quantize(tensors)  # a sum of 7 is far beyond every table, and still fits
    tensors["0.recurrent"] = np.full((100, 21), 1e3, dtype=np.float32)
    with pytest.raises(NotAModel, match=r"0\.recurrent holds weights too large"):
        quantize(tensors)


@pytest.mark.parametrize("value", [1e6, 1e30])
@pytest.mark.parametrize(
    "name", ["recurrent", "symbol_input", "bias", "candidate_bias", "readout_bias", "readout"]
)
def test_absurd_weights_are_refused_at_saving_and_at_loading(name, value, tmp_path, monkeypatch):
    config = StackConfig(levels=(7,), symbols=11)
    tensors = random_tensors(config)
    tensors[f"0.{name}"].flat[0] = value
    with pytest.raises(NotAModel, match=rf"m: tensor 0\.{name} holds weights too large"):
        save_model(tmp_path / "m", tensors, config, {})
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("chunker.models._check_tensors", lambda *arguments: None)
        save_model(tmp_path / "m", tensors, config, {})
    with pytest.raises(NotAModel, match=rf"m: tensor 0\.{name} holds weights too large"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("peak", [0.0, 1e-30, 1e-6, 1e-5, 2.0**-10])
def test_tiny_weights_are_frozen_to_what_they_are(peak):
    config = StackConfig(levels=(7,), symbols=11)
    tensors = random_tensors(config)
    tensors["0.readout"][:, 3] = peak
    frozen = quantize(tensors)
    assert (frozen["0.readout.multiplier"] >= 1).all()
    assert np.abs(dequantize(frozen)["0.readout"][:, 3] - peak).max() <= 2.0**-17


@pytest.mark.parametrize("size", KINDS)
def test_every_size_of_weights_can_be_saved(size, tmp_path):
    config = StackConfig(levels=(7, 5), mode="faithful", ngrams=NGRAMS, wake=Wake(guess=True))
    tensors = some_tensors(config, 2, size)
    save_model(tmp_path / "m", tensors, config, {})
    loaded = load_model(tmp_path / "m").integer_tensors
    assert all(np.array_equal(loaded[name], tensor) for name, tensor in tensors.items())
    if size == "limit":
        for name in tensors:
            if name.endswith(".multiplier") and kind(name) in MATRICES and tensors[name][0] < 2**31 - 1:
                over = {**tensors, name: tensors[name] + np.eye(1, len(tensors[name]), dtype=np.int32)[0]}
                with pytest.raises(NotAModel, match=name):
                    save_model(tmp_path / "m", over, config, {})
