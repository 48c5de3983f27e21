"""The integer twin: exact against plain integers, close to the float stack, independent of lanes."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.codec import exact, frequencies, tables
from chunker.core.quantize import float_shapes, freeze, integer_layout, thaw
from chunker.core.levels import IntegerStack, time_bucket
from chunker.config import TIME_BOUNDS, GateRule, NGrams, StackConfig
from chunker.errors import NotAModel

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
    return IntegerStack(config, freeze(tensors))


def run(stack, symbols):
    """All frequencies, (T, B, V), of symbols (T, B); and the ticks."""
    session = stack.session(symbols.shape[1])
    rows = []
    for row in symbols:
        rows.append(session.frequencies().copy())
        session.update(row)
    return np.stack(rows), session.ticks


def some_symbols(T, B, V=11, seed=1):
    return np.random.default_rng(seed).integers(0, V, (T, B))


# ---- tables -----------------------------------------------------------------------------------------


def test_the_tables_are_those_of_every_machine():
    assert tables.digest() == exact.TABLES_DIGEST


@pytest.mark.parametrize("position", [0, 1, 700, 3071, 3072, 3073, 5000, 6144])
def test_sigmoid_is_rounded_correctly(position):
    with localcontext() as context:
        context.prec = 60
        x = Decimal(position) / tables.STEPS - tables.SIGMOID_REACH
        exact_value = 1 / (1 + (-x).exp())
        assert abs(Decimal(float(tables.sigmoid_table()[position])) - exact_value) <= Decimal(2) ** -17


@pytest.mark.parametrize("position", [0, 1, 700, 1535, 1536, 1537, 2500, 3072])
def test_tanh_is_rounded_correctly(position):
    with localcontext() as context:
        context.prec = 60
        x = Decimal(position) / tables.STEPS - tables.TANH_REACH
        exact_value = (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())
        assert abs(Decimal(float(tables.tanh_table()[position])) - exact_value) <= Decimal(2) ** -17


def test_weights_halve_every_128_steps():
    table = tables.weight_table()
    assert table[0] == 2**32
    assert table[-1] == 1
    assert np.array_equal(table[:: tables.LOG_STEPS], 2.0 ** np.arange(32, -1, -1))
    assert (np.diff(table) <= 0).all()
    assert (table == np.rint(table)).all()


# ---- exact products ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 600), st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_products_are_exact_at_the_bound(inner, columns, rows, seed):
    rng = np.random.default_rng(seed)
    weights = rng.choice(np.array([-127, -126, 126, 127], dtype=np.int8), (inner, columns))
    scale = exact.activation_scale(weights)
    for h in (
        rng.integers(-scale, scale + 1, (rows, inner)),
        np.sign(weights[:, 0]) * np.full((rows, 1), scale),
    ):
        floats, ints = h.astype(np.float32), weights.astype(np.float32)
        out = np.empty((rows, columns), dtype=np.float32)
        exact.product(floats, ints, out)
        assert np.array_equal(out, h.astype(object) @ weights.astype(object))


def test_a_stack_too_wide_for_exact_products_is_refused():
    with pytest.raises(NotAModel, match="too wide"):
        exact.activation_scale(np.full((20_000, 1), 127, dtype=np.int8))


def test_without_exact_float_products_the_integers_give_the_same(monkeypatch):
    stack, symbols = integer_stack(), some_symbols(20, 3)
    fast, _ = run(stack, symbols)
    monkeypatch.setattr(exact, "check_machine", lambda: False)
    slow, _ = run(stack, symbols)
    assert np.array_equal(fast, slow)


# ---- frequencies ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    st.integers(2, 300),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1.0, 50.0, 500.0, 5e4, 1e8]),
)
def test_frequencies_are_whole_positive_and_complete(symbols, seed, spread):
    logits = (np.random.default_rng(seed).standard_normal((5, symbols)) * spread).astype(np.float32)
    rows = frequencies.frequencies(frequencies.weigh(logits))
    assert (rows == np.rint(rows)).all()
    assert (rows >= 0).all()
    assert (rows.sum(1) == 2**24 - symbols).all()


@settings(deadline=None, max_examples=100)
@given(
    st.integers(2, 40), st.integers(0, 2**32 - 1), st.sampled_from(["argmax", "surprise"]), st.floats(0.1, 9)
)
def test_nested_frequencies_are_whole_positive_and_complete(symbols, seed, rule, bits):
    rng = np.random.default_rng(seed)
    levels = [
        frequencies.weigh((rng.standard_normal((4, symbols)) * spread).astype(np.float32))
        for spread in (300, 2000, 30)
    ]
    limits = [frequencies.threshold(int(bits * 128))] * 2
    rows = frequencies.nested(levels, rule, limits)
    assert (rows == np.rint(rows)).all()
    assert (rows >= 0).all()
    assert (rows.sum(1) == 2**24 - symbols).all()
    settled = frequencies.expected(levels[0], rule, limits[0])
    assert np.array_equal(rows[settled], frequencies.frequencies(levels[0])[settled])


def test_the_cost_of_a_symbol_is_what_the_logits_say():
    logits = (np.random.default_rng(3).standard_normal((50, 256)) * 300).astype(np.float32)
    bits = -np.log2((frequencies.frequencies(frequencies.weigh(logits)) + 1) / 2**24)
    true = logits.astype(np.float64) / 128
    true = np.log2(np.exp2(true).sum(1, keepdims=True)) - true
    likely = true < 12
    assert np.abs(bits - true)[likely].max() < 0.02


# ---- the twin ---------------------------------------------------------------------------------------


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
        assert np.array_equal(session.frequencies(), whole[t, :kept])
        session.update(row[:kept])


@pytest.mark.parametrize("rule", [GateRule("argmax"), GateRule("surprise", 1.0), GateRule("rate", 0.2)])
def test_the_gate_reads_the_coders_integers(rule):
    stack = integer_stack(levels=(12, 10), mode="faithful", gate=rule)
    only = IntegerStack(
        StackConfig(levels=(12,), symbols=11, mode="faithful", gate=rule, ngrams=NGRAMS),
        {k: v for k, v in freeze(random_tensors(stack.config)).items() if k.startswith("0.")}
        | {"thresholds": np.zeros(0, dtype=np.int32)},
    )
    symbols = some_symbols(200, 1)
    level0, _ = run(only, symbols)
    picked = np.take_along_axis(level0, symbols[:, :, None], 2)[:, :, 0]
    missed = level0.argmax(2) != symbols if rule.rule == "argmax" else (picked + 1) / 2**24 < 2.0 ** (-2.5)
    missed[0] = True
    _, ticks = run(stack, symbols)
    assert ticks.tolist() == [200, int(missed.sum())]


@pytest.mark.parametrize("mode", ["joint", "faithful"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_twin_is_close_to_the_float_stack(cell, mode):
    torch = pytest.importorskip("torch")
    from chunker.learning.convert import build_stack

    config = StackConfig(levels=(24, 20), symbols=11, cell=cell, mode=mode, gate=GateRule("surprise", 2.5))
    tensors = random_tensors(config)
    stack = build_stack(config, thaw(freeze(tensors)))
    symbols = some_symbols(400, 8)
    rows, ticks = run(IntegerStack(config, freeze(tensors)), symbols)
    twin_bits = -np.log2((np.take_along_axis(rows, symbols[:, :, None], 2) + 1) / 2**24).mean()
    with torch.no_grad():
        output = stack(torch.from_numpy(symbols), stack.start(8))
        float_bits = float(stack.bits(output, torch.from_numpy(symbols)).double().mean())
    assert twin_bits == pytest.approx(float_bits, rel=0.01)
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
    config = StackConfig(levels=(7, 5), symbols=11, cell=cell)
    tensors = random_tensors(config)
    frozen = freeze(tensors)
    assert {name: (t.dtype, t.shape) for name, t in frozen.items()} == integer_layout(config)
    again = freeze(thaw(frozen))
    for name in frozen:
        if name.endswith(".q"):
            assert np.array_equal(frozen[name], again[name])
        floats = thaw(frozen)
    for name, tensor in tensors.items():
        assert floats[name].shape == tensor.shape
        assert np.abs(floats[name] - tensor).max() <= np.abs(tensor).max(initial=0) / 127


def test_diverged_weights_are_refused():
    config = StackConfig(levels=(7,), symbols=11)
    tensors = random_tensors(config)
    tensors["0.recurrent"][0, 0] = math.nan
    with pytest.raises(NotAModel, match="not finite"):
        freeze(tensors)
