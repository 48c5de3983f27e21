"""The readout that learns while it codes: exact, the same for encoder and decoder, and worth it."""

from __future__ import annotations

import numpy as np
import pytest
from test_twin import random_tensors, some_symbols

from chunker.coding import exact, readout
from chunker.coding.blocks import decode_net, encode_net
from chunker.coding.frames import Kind
from chunker.coding.freeze import freeze
from chunker.coding.readout import LearningReadout
from chunker.coding.twin import LOGIT_STEPS, IntegerStack
from chunker.config import StackConfig


def stack(mode="joint", cell="gru", levels=(12, 10)):
    config = StackConfig(levels=levels, symbols=11, mode=mode, cell=cell)
    return IntegerStack(config, freeze(random_tensors(config)))


def run(stack, symbols, learn):
    session = stack.session(symbols.shape[1], learn)
    rows = []
    for row in symbols:
        rows.append(session.frequencies().copy())
        session.update(row)
    return np.stack(rows)


def bits(rows, symbols):
    picked = np.take_along_axis(rows, symbols[:, :, None], 2)[:, :, 0] + 1
    return -np.log2(picked / 2**24)


@pytest.mark.parametrize("mode", ["joint", "faithful"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_learning_pays_and_frequencies_stay_complete(cell, mode):
    symbols = np.minimum(some_symbols(1500, 3), some_symbols(1500, 3, seed=9))  # small ones are frequent
    static, learnt = (run(stack(mode, cell), symbols, learn) for learn in (False, True))
    assert (learnt >= 0).all()
    assert (learnt == np.rint(learnt)).all()
    assert (learnt.sum(2) == 2**24 - 11).all()
    begin = slice(0, readout.WINDOW)  # nothing is learnt yet; the activations are rounded otherwise
    assert np.abs(bits(static, symbols) - bits(learnt, symbols))[begin].max() < 0.2
    assert bits(learnt, symbols)[900:].mean() < 0.98 * bits(static, symbols)[900:].mean()


def test_integers_instead_of_floats_give_the_same(monkeypatch):
    symbols = some_symbols(100, 5)
    fast = run(stack(), symbols, True)
    monkeypatch.setattr(exact, "check_machine", lambda: False)
    assert np.array_equal(fast, run(stack(), symbols, True))


def test_the_order_of_summation_cannot_matter(monkeypatch):
    """Products summed in another order: bits differ if anything inexact enters them."""
    symbols = some_symbols(100, 5)
    forward = run(stack(), symbols, True)

    def product(h, weights, out):
        out[...] = np.cumsum((h[:, ::-1, None] * weights[None, ::-1]), axis=1, dtype=np.float32)[:, -1]
        return out

    def wide_product(a, b):
        return np.cumsum(a.T[::-1, :, None] * b[::-1, None, :], axis=0)[-1]

    monkeypatch.setattr(exact, "product", product)
    monkeypatch.setattr(exact, "wide_product", wide_product)
    assert np.array_equal(forward, run(stack(), symbols, True))


def test_every_product_stays_within_the_mantissa(monkeypatch):
    """On symbols that drive the weights to their bounds."""
    seen = []
    real, real_wide = exact.product, exact.wide_product

    def product(h, weights, out):
        assert (h == np.rint(h)).all()
        assert (weights == np.rint(weights)).all()
        seen.append(float((np.abs(h.astype(np.float64)) @ np.abs(weights.astype(np.float64))).max()))
        assert seen[-1] <= exact.MANTISSA
        return real(h, weights, out)

    def wide_product(a, b):
        assert (a == np.rint(a)).all()
        assert (b == np.rint(b)).all()
        assert float((np.abs(a) @ np.abs(b)).max(initial=0)) < 2**53
        return real_wide(a, b)

    monkeypatch.setattr(exact, "product", product)
    monkeypatch.setattr(exact, "wide_product", wide_product)
    monkeypatch.setattr(readout, "RATE", np.float32(50))
    run(stack(levels=(400,)), some_symbols(200, 3), True)
    assert max(seen) > exact.MANTISSA / 100


@pytest.mark.parametrize("hidden", [1, 7, 352, 384, 1000, 8000])
def test_the_cap_keeps_the_bound_at_any_width(hidden):
    ones = np.full((hidden, 3), 127, dtype=np.float32)
    learner = LearningReadout(ones, np.ones(3, np.float32), np.zeros(3, np.float32), LOGIT_STEPS)
    assert learner._cap >= 127
    assert hidden * int(learner._cap) * learner._activations <= exact.MANTISSA


@pytest.mark.parametrize("n_bytes", [1, 15, 16, 17, 500, 1003])
def test_round_trip(tiny_model, n_bytes):
    data = (b"to be or not to be, that is the question; " * 100)[:n_bytes]
    for lanes in (1, 3, 40):
        if lanes <= n_bytes:
            payload = encode_net(tiny_model.integer_stack(), data, lanes, 10**9, kind=Kind.MIXED)
            assert payload is not None
            assert decode_net(tiny_model.integer_stack(), payload, n_bytes, lanes, kind=Kind.MIXED) == data


def test_sessions_do_not_share_what_they_learn(tiny_model):
    frozen = tiny_model.integer_stack()
    data = b"abcabcabd" * 200
    first = encode_net(frozen, data, 2, 10**9, kind=Kind.MIXED)
    assert encode_net(frozen, data, 2, 10**9, kind=Kind.MIXED) == first
    static = encode_net(frozen, data, 2, 10**9)
    assert first is not None
    assert static is not None
    assert len(first) < 0.8 * len(static)
