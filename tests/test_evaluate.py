"""Bits per byte: of integers, and of the float stack lane by lane, both on the same lanes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chunker.config import GateRule, StackConfig
from chunker.errors import NotAModel
from chunker.learning.evaluate import (
    Evaluation,
    Score,
    score_floats,
    score_integers,
)


class OrderZero:
    """An integer model that always expects symbol 65 with probability 1/2, and the 255 others equally."""

    def session(self, lanes):
        return OrderZeroSession(lanes)


class OrderZeroSession:
    def __init__(self, lanes):
        self.lanes = lanes
        self.ticks = np.zeros(2, dtype=np.int64)

    def probabilities(self):
        rows = np.full((self.lanes, 256), 0.5 / 255)
        rows[:, 65] = 0.5
        return rows

    def update(self, symbols):
        assert symbols.shape == (self.lanes,)
        self.ticks += [self.lanes, np.count_nonzero(symbols != 65)]

    def keep(self, lanes):
        assert 0 < lanes < self.lanes
        self.lanes = lanes


def test_integers_are_charged_for_what_came():
    symbols = np.array([[65, 65, 66], [65, 66, 0], [66, 0, 0]], dtype=np.uint8)
    score = score_integers(OrderZero(), symbols, np.array([3, 2, 1]))
    expected = 3 * 1 + 3 * -math.log2(0.5 / 255)
    assert score.bytes == 6
    assert score.bits == pytest.approx(expected, rel=1e-12)
    assert score.ticks == (6, 3)
    assert score.rates == [1.0, 0.5]
    assert score.bits_per_byte == pytest.approx(expected / 6)


def test_scores_add_up_and_compare():
    a, b = Score(10, 20.0, (10, 3)), Score(30, 30.0, (30, 7))
    assert a + b == Score(40, 50.0, (40, 10))
    one = Evaluation(2, Score(1, 1.01, (1,)), Score(1, 1.0, (1,)))
    assert one.loss_percent == pytest.approx(1)
    assert (one + one).lanes == 4
    assert (one + Evaluation(1, Score(1, 1.0, (1,)))).loss_percent is None


def small_stack(mode="joint", seed=0):
    torch = pytest.importorskip("torch")
    from chunker.learning.stack import Stack

    torch.manual_seed(seed)
    config = StackConfig(levels=(6, 5), mode=mode, symbols=8, gate=GateRule("surprise", 2.9))
    stack = Stack(config)
    if mode == "faithful":
        stack.grow()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.mul_(3)
        for i in range(2):  # so that some inputs are expected and some are not
            stack.get_parameter(f"levels.{i}.readout").mul_(20)
            stack.get_parameter(f"levels.{i}.symbol_input").mul_(5)
    return stack


@pytest.mark.parametrize("mode", ["joint", "faithful"])
def test_the_float_stack_costs_what_its_steps_cost(mode):
    torch = pytest.importorskip("torch")
    stack = small_stack(mode)
    symbols = np.random.default_rng(0).integers(0, 8, (50, 3), dtype=np.uint8)
    bits, ticks = stack.score_lanes(symbols, np.array([50, 50, 50]))
    state = stack.start(3)
    log_probs, expected = stack.first(state), np.zeros(3)
    for row in symbols:
        tokens = torch.from_numpy(row).long()
        expected -= log_probs.detach().gather(1, tokens[:, None])[:, 0].numpy() / math.log(2)
        log_probs, state = stack.step(tokens, state)
    np.testing.assert_allclose(bits, expected, rtol=1e-5)
    assert ticks[0] == 150
    assert 0 < ticks[1] < 150


def test_each_lane_costs_the_same_alone_and_among_longer_ones():
    stack = small_stack()
    symbols = np.random.default_rng(1).integers(0, 8, (40, 3), dtype=np.uint8)
    lengths = np.array([40, 25, 1])
    bits, ticks = stack.score_lanes(symbols, lengths)
    alone = [stack.score_lanes(symbols[:n, [i]], np.array([n])) for i, n in enumerate(lengths)]
    np.testing.assert_allclose(bits, [b[0] for b, _ in alone], rtol=1e-5)
    assert ticks.tolist() == np.sum([t for _, t in alone], axis=0).tolist()


def test_windows_do_not_matter(monkeypatch):
    stack = small_stack()
    symbols = np.random.default_rng(2).integers(0, 8, (60, 2), dtype=np.uint8)
    whole = score_floats(stack, symbols, np.array([60, 60]))
    monkeypatch.setattr("chunker.learning.stack._WINDOW", 7)
    pieces = score_floats(stack, symbols, np.array([60, 60]))
    assert pieces.bits == pytest.approx(whole.bits, rel=1e-6)
    assert pieces.ticks == whole.ticks


def test_scoring_leaves_the_stack_as_it_was():
    stack = small_stack()
    stack.train()
    before = {name: tensor.clone() for name, tensor in stack.state_dict().items()}
    stack.score_lanes(np.zeros((20, 2), np.uint8), np.array([20, 20]))
    assert stack.training
    assert all((before[name] == tensor).all() for name, tensor in stack.state_dict().items())


@pytest.mark.parametrize("mode", ["joint", "faithful"])
def test_a_stack_is_rebuilt_from_its_tensors(mode):
    stack = small_stack(mode)
    from chunker.learning.convert import to_file
    from chunker.learning.stack import Stack

    again = Stack.from_tensors(stack.config, to_file(stack.state_dict()))
    symbols = np.random.default_rng(3).integers(0, 8, (30, 2), dtype=np.uint8)
    lengths = np.array([30, 30])
    assert score_floats(again, symbols, lengths) == score_floats(stack, symbols, lengths)


def test_tensors_that_do_not_fit_are_refused():
    stack = small_stack()
    from chunker.core.layout import float_shapes
    from chunker.learning.convert import to_file
    from chunker.learning.stack import Stack

    arrays = to_file(stack.state_dict())
    assert {name: array.shape for name, array in arrays.items()} == float_shapes(stack.config)
    arrays.pop("1.recurrent")
    with pytest.raises(NotAModel, match="do not fit"):
        Stack.from_tensors(stack.config, arrays)
