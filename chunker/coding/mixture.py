"""The net and what the contexts remember, mixed bit by bit: context mixing with the net as one of its inputs.

For each context (contexts.py) a memory holds the history of bits that followed it; a table says how probable a 1
is after such a history. These predictions, the net's own, and that of the longest repetition are mixed in the
logistic domain by weights that learn from every bit (Mahoney 2000, "Fast text compression with neural networks";
2005, "Adaptive weighing of context models", 4.2). A byte is coded as two halves of four bits. The probabilities of
a half's 15 possible bits are mixed at once, so that numpy's overhead is paid twice a byte instead of eight times,
and learning from the four bits that came follows.

Exact like the rest: inputs, weights, and steps are integers held in float64, products are sums below 2**53, the
sigmoid and the logarithm are tables.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunker.coding import exact
from chunker.coding.contexts import CONTEXTS, MATCH_LENGTHS, ORDERS, Contexts, UInts, scattered
from chunker.coding.frequencies import Weighed, Weights, frequencies
from chunker.coding.histories import HISTORIES, NEXT, initial_probabilities
from chunker.coding.tables import SIGMOID_REACH, STEPS, log_table, sigmoid_table

Ints = NDArray[np.intp]
Floats = NDArray[np.float64]

HALF = 16  # values of half a byte
PROBABILITY = 65536.0  # of a 1, in these units
WEIGHT = 65536.0  # a mixing weight of 1
REACH = SIGMOID_REACH * STEPS  # of stretched probabilities
LINEAR = 1 / 64  # inputs besides the stretched ones: (p - 1/2) in units of PROBABILITY, times that

# Inputs of each bit: of each context, stretched and linear; of the repetition, likewise; the net's; a constant.
INPUTS = 2 * CONTEXTS + 4
MATCH, NET, CONSTANT = 2 * CONTEXTS, INPUTS - 2, INPUTS - 1
MIX_RATE = 0.001 * STEPS
HISTORY_RATE = 1 / 200
MATCH_RATE = 1 / 100
CONTEXT_WEIGHT, MATCH_WEIGHT, NET_WEIGHT = 0.18, 0.2, 0.5  # to begin with, of the stretched inputs
SURE = 32.0  # no table says less than this, or more than PROBABILITY - this
WEIGHT_CAP = 2.0**24
MAX_TABLE_BITS = 20

# Sets of weights, of which three are added: by half and node (0 the upper half, 1 + its value the lower one); by
# the repetition's length and how many orders are known; by the byte before.
BY_NODE, BY_MATCH, BY_BYTE = 0, (1 + HALF) * HALF, (1 + HALF) * HALF + MATCH_LENGTHS * 16
SETS = BY_BYTE + 512

_SPREAD = np.uint32(0x9E3779B1)
# nodes of the tree of half a byte: 1 the first bit, 2 and 3 the second after 0 and 1, ..
_PATH: Ints = np.array([[1, 2 + (v >> 3), 4 + (v >> 2), 8 + (v >> 1)] for v in range(HALF)], dtype=np.intp)
_BITS: Ints = np.array([[v >> 3 & 1, v >> 2 & 1, v >> 1 & 1, v & 1] for v in range(HALF)], dtype=np.intp)
# (17, 16): on the way to a half the sign of its bits, elsewhere 0, as everywhere on the way to HALF: to none
_SIGNS: Floats = np.zeros((HALF + 1, HALF))
_SIGNS[np.arange(HALF)[:, None], _PATH] = 2 * _BITS - 1
# the halves of Contexts.matched
_UPPER: Ints = np.append(np.full(256, HALF), np.arange(256) >> 4).astype(np.intp)
_LOWER: Ints = np.append(np.full(256, HALF), np.arange(256) & 15).astype(np.intp)
_ALL_INPUTS: Ints = np.arange(INPUTS)
# Slots of memory: a check of the hash, then the histories at nodes 1 to 15.
_SLOT = np.dtype((np.void, HALF))
# what comes after a history of a context with a 0, and with a 1: (2 * CONTEXTS * HISTORIES,)
_NEXT = np.tile(NEXT, (1, CONTEXTS)).reshape(-1)


@cache
def logarithms() -> Floats:
    """ln in units of 1/STEPS, on a grid of 2**-16, by a float64's exponent and upper 10 digits: of 1 up to 2**25."""
    fraction, doubling = log_table()
    exponents = np.arange(1.0, 26.0)[:, None]  # as of numbers in [1/2, 1) times a power of two
    return ((fraction + exponents * doubling) * 2.0**-16).reshape(-1)


def logarithm(x: Floats) -> Floats:
    """ln of whole numbers from 1 to TOTAL, of their upper 11 digits."""
    # the bits of positive floats are in their order, and 1.0 is 1023 << 52
    digits = x.view(np.int64) >> np.int64(42)
    digits -= np.int64(1023 << 10)
    result: Floats = logarithms().take(digits)
    return result


@cache
def input_table() -> Floats:
    """(PROBABILITY, 2): of p in units of 1/PROBABILITY the stretched one, ln(p / (1 - p)) of p + 1/2, in units of
    1/STEPS, and the linear one."""
    i = np.arange(PROBABILITY)
    stretched = np.rint(logarithm(2 * i + 1) - logarithm(2 * (PROBABILITY - i) - 1))
    return np.stack([stretched, np.rint((i - PROBABILITY / 2) * LINEAR)], 1)


@cache
def squashing_table() -> Floats:
    """sigmoid(i / STEPS) for i = 0 .. REACH, then for i = -REACH .. -1: to be indexed by i."""
    table = sigmoid_table().astype(np.float64)
    return np.append(table[REACH:], table[:REACH])


class Mixture:
    """One block's memories and weights. For each step of n lanes, in this order:

    high(rows): (n, 256) -> (n, 16)   of the bytes' upper halves, from the net's rows, kept until `low`
    low(high): (n,) -> (n, 16)        of the lower halves, once the upper ones are known
    update(symbols): (n,)             once the bytes are; not needed after the last step

    rows: frequencies - 1 of the values, integers held in float64; each adds up to TOTAL - their number.
    There are at most `steps` steps, all with `lanes` lanes, but fewer in the last one after `keep`.
    Memory: 192 to 384 bytes for each byte of the block, but 49 KB at least and 201 MB at most; besides, for the
    repetitions, up to 17 bytes a byte and 8 MB more than the block at most; 12 KB a lane; and 2 MB.
    """

    def __init__(self, lanes: int, steps: int) -> None:
        self._contexts = Contexts(lanes, steps)
        self._bits = min(max((2 * lanes * steps).bit_length() - 1, 8), MAX_TABLE_BITS)
        self._histories = np.zeros(CONTEXTS * HALF << self._bits, dtype=np.uint8)
        self._slots = self._histories.view(_SLOT)
        self._tables = np.arange(CONTEXTS)[:, None] << self._bits
        # how probable a 1 is after each history in each context
        self._known = np.tile(np.floor(initial_probabilities() * PROBABILITY), CONTEXTS)
        self._offsets = np.arange(CONTEXTS) * HISTORIES
        ages = np.arange(MATCH_LENGTHS)
        # that the repetition goes on; the second half is where lanes without one learn
        self._agreeing = np.tile(np.rint((ages + 1.5) / (ages + 2) * PROBABILITY), 2)
        self._weights = np.zeros((SETS, INPUTS))
        self._by_node = self._weights[:BY_MATCH].reshape(1 + HALF, HALF, INPUTS)
        first = np.zeros(INPUTS)
        first[:MATCH:2], first[MATCH], first[NET] = CONTEXT_WEIGHT, MATCH_WEIGHT, NET_WEIGHT
        self._by_node[:] = np.rint(first * WEIGHT)
        self._refresh()
        self._make_room(lanes)

    def _refresh(self) -> None:
        _bound(self._known, SURE, PROBABILITY - SURE)
        self._known_inputs = input_table().take(self._known.astype(np.intp), 0)
        self._known_inputs[::HISTORIES] = 0
        _bound(self._by_node, -WEIGHT_CAP, WEIGHT_CAP)

    def _make_room(self, lanes: int) -> None:
        self._lanes = np.arange(lanes)
        self._nodes = self._lanes[:, None] * HALF
        self._none = np.zeros(lanes, dtype=np.intp)
        self._inputs = np.empty((lanes, HALF, INPUTS))
        self._inputs[:, :, CONSTANT] = STEPS
        self._by_context = np.empty((lanes, HALF, CONTEXTS, 2))
        self._which = np.empty((lanes, HALF, CONTEXTS), dtype=np.intp)
        self._sets = np.empty((lanes, 6), dtype=np.intp)

    def keep(self, lanes: int) -> None:
        """Drop all but the first `lanes` lanes; there is no update after it. Before `high`."""
        self._contexts.keep(lanes)
        self._make_room(lanes)

    def high(self, rows: Weights) -> Weights:
        self._net = rows.reshape(len(rows), HALF, HALF)
        value = _UPPER.take(self._contexts.matched)
        hashes = scattered(self._contexts.hashes)
        return self._predict(np.add.reduce(self._net, 2) + HALF, self._none, value, hashes)

    def low(self, high: NDArray[np.integer[Any]]) -> Weights:
        self._learn(high)
        contexts, upper = self._contexts, high.astype(np.intp)
        value = np.where(_UPPER.take(contexts.matched) == upper, _LOWER.take(contexts.matched), HALF)
        half = upper + 1
        hashes = scattered(contexts.hashes + half.astype(np.uint32) * _SPREAD)
        return self._predict(self._net[self._lanes, upper] + 1, half, value, hashes)

    def update(self, symbols: NDArray[np.integer[Any]]) -> None:
        self._learn(symbols & 15)
        self._contexts.update(symbols)
        self._refresh()

    def _find(self, hashes: UInts) -> NDArray[np.uint8]:
        """The memories of each lane's contexts, emptied if they were another context's: (CONTEXTS, lanes, 16)."""
        slots: Ints = (hashes >> np.uint32(32 - self._bits)).astype(np.intp)
        slots += self._tables
        self._places: Ints = slots * HALF
        checks = hashes.astype(np.uint8)
        there = self._slots.take(slots).view(np.uint8).reshape(*slots.shape, HALF)
        self._slots[slots[there[:, :, 0] != checks]] = np.zeros((), dtype=_SLOT)
        self._histories[self._places.reshape(-1)] = checks.reshape(-1)  # in order: the last lane's stays
        return self._slots.take(slots).view(np.uint8).reshape(*slots.shape, HALF)

    def _predict(self, leaves: Weights, half: Ints, value: Ints, hashes: UInts) -> Weights:
        """half: 0, or 1 + the upper one. value: of the half that the repetition predicts, HALF where none.

        |inputs| of a bit add up to less than 2**16, and both kinds of weights are within WEIGHT_CAP here (the lower
        halves' sets are not those that the upper ones just changed): the sums are below 2**41.
        """
        lanes, second, inputs, sets = len(leaves), half is not self._none, self._inputs, self._sets
        states = self._find(hashes)
        # at node 0 there is a check instead of a history; what becomes of it is not used, hence clip
        np.add(states.transpose(1, 2, 0), self._offsets, out=self._which)
        self._known_inputs.take(self._which, 0, out=self._by_context, mode="clip")
        inputs[:, :, :MATCH] = self._by_context.reshape(lanes, HALF, MATCH)
        self._value = value
        self._length = self._contexts.length + (value == HALF) * MATCH_LENGTHS
        goes_on = input_table().take(self._agreeing.take(self._length).astype(np.intp), 0)
        signs = _SIGNS.take(value, 0)
        np.multiply(signs, goes_on[:, :1], out=inputs[:, :, MATCH])
        np.multiply(signs, goes_on[:, 1:], out=inputs[:, :, MATCH + 1])
        inputs[:, :, NET] = _stretched_sums(leaves)

        known = np.add.reduce(states[:ORDERS, :, 1] > 0, 0, dtype=np.intp)
        sets[:, :4] = half[:, None] * HALF
        sets[:, 4] = self._contexts.length * 16 + known * 2 + (BY_MATCH + second)
        sets[:, 5] = self._contexts.previous * 2 + (BY_BYTE + second)
        shared = np.add.reduce(self._weights.take(sets[:, 4:], 0), 1)
        _bound(shared, -WEIGHT_CAP, WEIGHT_CAP)
        by_node = self._by_node.take(half, 0)
        dots = (
            np.einsum("lni,lni->ln", inputs, by_node)
            + exact.wide_product(inputs, shared[:, :, None])[:, :, 0]
        )
        dots *= 1 / WEIGHT
        np.rint(dots, out=dots)
        _bound(dots, -REACH, REACH)
        self._ones = squashing_table()[dots.astype(np.intp)]
        return _shares(self._ones)

    def _learn(self, values: NDArray[np.integer[Any]]) -> None:
        """From the halves (lanes,) that came: four bits a lane.

        A step of a weight is below 2**10, so that sets that nothing bounds stay below 2**34 in a block of 2 MB; a
        probability that n lanes meet at once may overshoot by 4 * n * HISTORY_RATE, below 2**38 for n < 2**16.
        """
        path, bits = _PATH.take(values, 0), _BITS.take(values, 0)
        nodes = self._nodes + path
        error = (bits - self._ones.take(nodes)) * MIX_RATE
        amounts = np.empty((len(path), 6, INPUTS))
        steps = amounts[:, :4]
        np.multiply(self._inputs.reshape(-1, INPUTS).take(nodes, 0), error[:, :, None], out=steps)
        np.rint(steps, out=steps)
        amounts[:, 4:] = np.add.reduce(steps, 1)[:, None]
        self._sets[:, :4] += path
        _add(self._weights, (self._sets * INPUTS)[:, :, None] + _ALL_INPUTS, amounts)

        which = self._which.reshape(-1, CONTEXTS).take(nodes, 0)  # (lanes, 4, CONTEXTS)
        target = (bits * PROBABILITY)[:, :, None]
        _add(self._known, which, np.rint((target - self._known.take(which)) * HISTORY_RATE))
        then = _NEXT.take(which + (bits * (CONTEXTS * HISTORIES))[:, :, None])
        at = self._places.T[:, None] + path[:, :, None]
        self._histories[at.reshape(-1)] = then.reshape(-1)  # in order: the last lane's stays

        agreed = (values == self._value) * PROBABILITY
        _add(self._agreeing, self._length, np.rint((agreed - self._agreeing.take(self._length)) * MATCH_RATE))
        _bound(self._agreeing, SURE, PROBABILITY - SURE)


def _add(table: Floats, index: Ints, amounts: Floats) -> None:
    """table.flat[index] += amounts; a place that is named twice gets both."""
    np.add.at(table.reshape(-1), index.reshape(-1), amounts.reshape(-1))


def _bound(x: Floats, low: float, high: float) -> None:
    """np.clip in place, without its overhead."""
    np.maximum(x, low, out=x)
    np.minimum(x, high, out=x)


@cache
def _sides() -> Floats:
    """(16, 32): of which leaves the sums are taken: right of each node, then left of it; at node 0 all twice."""
    sides = np.zeros((HALF, 2, HALF))
    sides[:, :, 0] = 1
    leaves = np.arange(HALF)[:, None]
    sides[leaves, 1 - _BITS, _PATH] = 1
    return sides.reshape(HALF, 2 * HALF)


def _stretched_sums(leaves: Weights) -> Floats:
    """(n, 16) positive numbers -> (n, 16) ln of right over left at each node, in 1/STEPS; column 0 is 0."""
    logs = logarithm(exact.wide_product(leaves, _sides()))
    out = logs[:, :HALF] - logs[:, HALF:]
    np.rint(out, out=out)
    _bound(out, -REACH, REACH)
    return out


def _shares(ones: Floats) -> Weights:
    """Frequencies - 1 of the 16 values (n, 16), from the probability of a 1 at each node (n, 16)."""
    sums = np.empty((2 * HALF, len(ones)))
    sums[1] = 2.0**40
    for width in (1, 2, 4, 8):
        here = sums[width : 2 * width]
        right = np.multiply(here, ones.T[width : 2 * width], out=sums[2 * width + 1 : 4 * width : 2])
        np.subtract(here, right, out=sums[2 * width : 4 * width : 2])
    weights = np.floor(sums[HALF:].T, order="C")
    weights += 1
    return frequencies(Weighed(weights, np.add.reduce(weights, 1, keepdims=True), weights.argmax(1)))
