"""Context mixing: against a plain reference, exact on every machine, the same for both sides, and worth it."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_golden import kernels

from chunker.coding import contexts, exact, histories, mixture
from chunker.coding.blocks import from_steps, to_steps
from chunker.coding.entropy import TOTAL, Decoder, Encoder
from chunker.coding.mixture import Mixture
from chunker.coding.tables import log_table, sigmoid_table

ROWS_DIGEST = "a7b99320c0b842c8"  # of `digest_of_rows`: a part of the format

# ---- inputs -----------------------------------------------------------------------------------------

_WORDS = b"Zu jener Zeit was the answer, to be or not; \xc3\xa4hnlich nine 42 words".split(b" ")


def text(n):
    """Lines of words, numbers and fields, some long, with repetitions; the same everywhere."""
    out, x = bytearray(), 12345
    while len(out) < n:
        x = (x * 1103515245 + 12345) % 2**31
        line = [_WORDS[(x >> 8 + 3 * k) % len(_WORDS)] for k in range((x >> 20) % 9)]
        out += b"%d,\t%s\n" % (x % 7, b" ".join(line))
        if x >> 16 & 7 == 0:
            out += out[-90:-20] + b" :;" * 30
    return bytes(out[:n])


def data_of(name, n):
    return {
        "random": np.random.default_rng(3).bytes(n),
        "equal": b"\xff" * n,
        "newlines": b"\n" * n,
        "alternating": bytes([0, 255] * n)[:n],
        "repetitive": (b"abcabcabdabcabcXYZ, " * n)[:n],
        "text": text(n),
    }[name]


def net_rows(n, kind="random", seed=0, symbols=None):
    """(n, 256) of a net: any, all alike, or sure of the symbols."""
    if kind == "uniform":
        return np.full((n, 256), TOTAL / 256 - 1)
    if kind == "random":
        i = np.arange(n * 256, dtype=np.uint64).reshape(n, 256) + np.uint64(997 * seed)
        weights = (i * np.uint64(2654435761) & np.uint64(0xFFFFF)) ** np.uint64(2) >> np.uint64(18)
        rows = np.floor(weights / weights.sum(1, keepdims=True) * (TOTAL - 256))
    else:
        rows = np.zeros((n, 256))
    best = rows.argmax(1) if symbols is None else symbols
    rows[np.arange(n), best] += TOTAL - 256 - rows.sum(1)
    return rows


def rows_of(stage, data, lanes, kind="random"):
    """All rows of a stage, (2, lanes, 16) a step but for the last step of a short last lane; and their bits."""
    steps, last_lanes = to_steps(data, lanes)
    rows, bits = [], 0.0
    for t, symbols in enumerate(steps):
        if t + 1 == len(steps) and last_lanes < lanes:
            stage.keep(last_lanes)
            symbols = symbols[:last_lanes]
        net = net_rows(len(symbols), kind, t, symbols if kind == "sure" else None)
        high, at = symbols >> 4, np.arange(len(symbols))
        upper = np.asarray(stage.high(net))
        lower = np.asarray(stage.low(high))
        for row, value in ((upper, high), (lower, symbols & 15)):
            rows.append(row.copy())
            bits -= np.log2((row[at, value] + 1) / TOTAL).sum()
        if t + 1 < len(steps):
            stage.update(symbols)
    return rows, bits


def new(data, lanes):
    return Mixture(lanes, -(-len(data) // lanes))


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# ---- the reference ----------------------------------------------------------------------------------

A, B, C, D = 0x2F0B4C47, 0x3D4D51CB, 0x7F4A7C15, 0x1B873593
M = 2**32 - 1
LETTERS = set(range(65, 91)) | set(range(97, 123)) | set(range(128, 256))


def finalised(x):
    x = (x ^ x >> 16) * 0x85EBCA6B & M
    x = (x ^ x >> 13) * 0xC2B2AE35 & M
    return x ^ x >> 16


def big(past, first, last):
    """The bytes from the first-last one to the last-last one as a number."""
    return int.from_bytes(bytes(past[-first : max(len(past) - last + 1, 0)]), "big")


def hashes_of(past):
    """The numbers of the 12 contexts after the bytes `past` of one lane, each from the beginning."""
    now, words, inside = len(past), [0], False
    starts, above, line, line_before, field, begin = {0: 0}, {}, 0, 0, 0, 0
    field_hash = 0
    for i, byte in enumerate(past):
        if byte in LETTERS:
            words += [] if inside else [0]
            words[-1] = (words[-1] + (byte | 32) + 1) * A & M
        inside = byte in LETTERS
        field_hash = (field_hash + byte + 1) * A & M
        if byte in b'\n\t ,:;"':
            field, begin, field_hash = field + 1, i + 1, 0
            starts[min(field, 63)] = i + 1
        if byte == 10:
            above, line_before, line, field = dict(starts), line, i + 1, 0
            starts[0] = i + 1
    word = words[-1] if inside else 0
    word_before = words[-2] if inside and len(words) > 1 else words[-1]
    in_field, in_line = (
        past[at] + 1 if at < line else 0
        for at in (above.get(min(field, 63), 0) + now - begin, line_before + now - line)
    )
    byte, short = big(past, 1, 1), big(past, 2, 1)
    four, before = big(past, 4, 1), big(past, 8, 5)
    numbers = [
        byte, short, big(past, 3, 1), four,
        four * A + big(past, 6, 5) * B, four * A + before * B,
        word * C + byte, word * C + word_before * D,
        field_hash * C + field * D, in_field * C + field * D + byte * B,
        in_line * C + byte * B + min(now - line, 255) * D, field_hash * C + field * D + word_before * B,
    ]  # fmt: skip
    return [(x * A + i * 0x632BE5AB) & M for i, x in enumerate(numbers)], (four * A + before * B) & M


def ln(x):
    fraction, doubling = log_table()
    mantissa, exponent = math.frexp(x)
    return (float(fraction[int((mantissa - 0.5) * 2048)]) + exponent * doubling) / 65536


def bounded(x, low, high):
    return min(max(x, low), high)


def both(p):
    """Stretched and linear."""
    return round(ln(2 * p + 1) - ln(131071 - 2 * p)), round((p - 32768) / 64)


class Reference:
    """The stage lane by lane, bit by bit, input by input, in Python's numbers."""

    def __init__(self, lanes, steps):
        self.past: list = [[] for _ in range(lanes)]
        self.hashes: tuple = (hashes_of([])[0],) * lanes
        self.all = []  # bytes by position, step * lanes + lane
        self.lanes, self.steps = lanes, steps
        self.bits = bounded((2 * lanes * steps).bit_length() - 1, 8, 20)
        self.match_bits = bounded((steps * lanes).bit_length(), 10, 20)
        self.slots: dict = defaultdict(lambda: (0, defaultdict(int)))  # a check, and histories by node
        self.places, self.agreed, self.at = {}, [0] * lanes, [0] * lanes
        initial = [math.floor(p * 65536) for p in histories.initial_probabilities().tolist()]
        self.known: dict = {(c, h): p for c in range(12) for h, p in enumerate(initial)}
        self.inputs_of, self.changed = {}, set(self.known)
        self.agreeing: dict = {(n,): round((n + 1.5) / (n + 2) * 65536) for n in range(32)}
        self.weights: dict = defaultdict(int)
        for part in range(17):
            for node in range(16):
                for c in range(12):
                    self.weights["node", part, node, 2 * c] = round(0.18 * 65536)
                self.weights["node", part, node, 24] = round(0.2 * 65536)
                self.weights["node", part, node, 26] = round(0.5 * 65536)
        self.changed |= set(self.weights)
        self.refresh()

    def refresh(self):
        """Once a byte, what the bits changed takes effect: bounds, and the inputs from the histories."""
        for key in self.changed:
            if key[0] == "node":
                self.weights[key] = bounded(self.weights[key], -mixture.WEIGHT_CAP, mixture.WEIGHT_CAP)
            elif key in self.known:
                self.known[key] = bounded(self.known[key], 32, 65504)
                self.inputs_of[key] = both(self.known[key]) if key[1] else (0, 0)
        self.changed = set()

    def keep(self, lanes):
        self.past, self.hashes = self.past[:lanes], self.hashes[:lanes]

    def high(self, rows):
        self.rows = [[int(x) + 1 for x in row] for row in rows]
        leaves = [[sum(row[16 * v : 16 * v + 16]) for v in range(16)] for row in self.rows]
        return self.predict(leaves, [0] * len(rows))

    def low(self, high):
        self.learn(high)
        halves = [int(v) for v in high]
        leaves = [row[16 * v : 16 * v + 16] for row, v in zip(self.rows, halves, strict=True)]
        return self.predict(leaves, [v + 1 for v in halves])

    def find(self, parts):
        """The slot of each lane and context; those of other contexts are emptied before any is read."""
        wanted = []
        for numbers, part in zip(self.hashes, parts, strict=True):
            numbers = [finalised((x + part * 0x9E3779B1) & M) for x in numbers]
            wanted.append([((c, x >> 32 - self.bits), x & 255) for c, x in enumerate(numbers)])
        flat = [pair for lane in wanted for pair in lane]
        for key in [key for key, check in flat if self.slots[key][0] != check]:
            self.slots[key][1].clear()
        for key, check in flat:
            self.slots[key] = (check, self.slots[key][1])
        return [[key for key, _ in lane] for lane in wanted]

    def predict(self, leaves, parts):
        self.parts = parts
        self.keys = self.find(parts)
        self.seen = [[{n: self.slots[key][1][n] for n in range(1, 16)} for key in lane] for lane in self.keys]
        self.inputs, self.ones, self.sets, self.matched = [], [], [], []
        result = []
        for i, part in enumerate(parts):
            byte = self.all[self.at[i]] if self.agreed[i] else None
            if byte is not None:
                byte = byte >> 4 if not part else byte & 15 if byte >> 4 == part - 1 else None
            age = min(self.agreed[i], 15) + min(max(self.agreed[i] - 15, 0) // 4, 16)
            orders = sum(self.seen[i][c][1] > 0 for c in range(6))
            previous = self.past[i][-1] if self.past[i] else 0
            sets = [("match", age, orders, part > 0), ("byte", previous, part > 0)]
            cap, inputs, ones = mixture.WEIGHT_CAP, {}, {}
            shared = [
                int(bounded(sum(self.weights.get((*s, k), 0) for s in sets), -cap, cap)) for k in range(28)
            ]
            for node in range(1, 16):
                x = [y for c in range(12) for y in self.inputs_of[c, self.seen[i][c][node]]]
                depth = node.bit_length() - 1
                sign = 0
                if byte is not None and (16 | byte) >> 4 - depth == node:
                    sign = 2 * (byte >> 3 - depth & 1) - 1
                x += [sign * y for y in both(self.agreeing[age,])]
                span = 16 >> depth
                first = (node << 4 - depth) - 16
                left = sum(leaves[i][first : first + span // 2])
                right = sum(leaves[i][first + span // 2 : first + span])
                x += [bounded(round(ln(right) - ln(left)), -3072, 3072), 256]
                own = [int(self.weights["node", part, node, k]) for k in range(28)]
                dot = sum(y * (v + w) for y, v, w in zip(x, own, shared, strict=True))
                dot = bounded(round(dot / 65536), -3072, 3072)
                inputs[node], ones[node] = x, float(sigmoid_table()[dot + 3072])
            self.inputs.append(inputs)
            self.ones.append(ones)
            self.sets.append(sets)
            self.matched.append((byte, age))
            result.append(self.shares(ones))
        return result

    def shares(self, ones):
        sums = {1: 2.0**40}
        for node in range(1, 16):
            sums[2 * node + 1] = sums[node] * ones[node]
            sums[2 * node] = sums[node] - sums[2 * node + 1]
        weights = [math.floor(sums[16 + v]) + 1 for v in range(16)]
        factor = (TOTAL - 16) / sum(weights)
        row = [math.floor(w * factor) for w in weights]
        row[weights.index(max(weights))] += TOTAL - 16 - sum(row)
        return row

    def learn(self, values):
        added: list = []
        for i, value in enumerate(int(v) for v in values):
            for depth in range(4):
                node, bit = (16 | value) >> 4 - depth, value >> 3 - depth & 1
                error = (bit - self.ones[i][node]) * mixture.MIX_RATE
                for k, x in enumerate(self.inputs[i][node]):
                    step = round(x * error)
                    for s in (("node", self.parts[i], node), *self.sets[i]):
                        added.append((self.weights, (*s, k), step))
                for c in range(12):
                    key = c, self.seen[i][c][node]
                    step = round((bit * 65536 - self.known[key]) * mixture.HISTORY_RATE)
                    added.append((self.known, key, step))
            byte, age = self.matched[i]
            if byte is not None:
                step = round(((value == byte) * 65536 - self.agreeing[age,]) * mixture.MATCH_RATE)
                added.append((self.agreeing, (age,), step))
        for table, key, step in added:
            table[key] += step
            self.changed.add(key)
        for i, value in enumerate(int(v) for v in values):  # the last of several lanes stays
            for depth in range(4):
                node, bit = (16 | value) >> 4 - depth, value >> 3 - depth & 1
                for c in range(12):
                    self.slots[self.keys[i][c]][1][node] = int(histories.NEXT[bit, self.seen[i][c][node]])
        self.agreeing = {key: bounded(p, 32, 65504) for key, p in self.agreeing.items()}

    def update(self, symbols):
        self.learn([s & 15 for s in symbols])
        now = len(self.past[0])
        for i, symbol in enumerate(int(s) for s in symbols):
            good = self.agreed[i] and self.all[self.at[i]] == symbol
            self.agreed[i], self.at[i] = (self.agreed[i] + 1, self.at[i] + self.lanes) if good else (0, 0)
            self.past[i].append(symbol)
            self.all.append(symbol)
        self.hashes, match_hashes = zip(*map(hashes_of, self.past), strict=True)
        if now + 1 >= 8:
            found = dict(self.places)
            for i, past in enumerate(self.past):
                place = finalised(match_hashes[i]) >> 32 - self.match_bits
                self.places[place] = now * self.lanes + i
                if place in found and not self.agreed[i]:
                    there = found[place]
                    other = self.past[there % self.lanes][: there // self.lanes + 1]
                    pairs = zip(past[:-17:-1], other[:-17:-1], strict=False)
                    agreed = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(other), 16))
                    if agreed >= 8:
                        self.agreed[i], self.at[i] = agreed, there + self.lanes
        self.refresh()


CASES = [("random", 1, 60), ("random", 17, 120), ("equal", 1, 100), ("equal", 3, 100), ("newlines", 2, 40)]
CASES += [("alternating", 1, 80), ("alternating", 17, 190), ("repetitive", 1, 100), ("repetitive", 3, 220)]
CASES += [("text", 1, 250), ("text", 3, 400), ("text", 17, 420)]


@pytest.mark.parametrize(("name", "lanes", "n_bytes"), CASES)
def test_the_stage_is_what_it_says(name, lanes, n_bytes):
    data = data_of(name, n_bytes)
    expected, _ = rows_of(Reference(lanes, -(-n_bytes // lanes)), data, lanes)
    assert same(rows_of(new(data, lanes), data, lanes)[0], expected)


@pytest.mark.parametrize(("name", "cap", "rate"), [("alternating", 2.0**16, 40.0), ("text", 2.0**12, 3.0)])
def test_the_stage_is_what_it_says_at_the_caps(name, cap, rate, monkeypatch):
    monkeypatch.setattr(mixture, "WEIGHT_CAP", cap)
    monkeypatch.setattr(mixture, "MIX_RATE", rate)
    monkeypatch.setattr(mixture, "HISTORY_RATE", 1 / 3)
    monkeypatch.setattr(mixture, "MATCH_RATE", 1 / 2)
    data, reference, stage = data_of(name, 160), Reference(3, 54), Mixture(3, 54)
    assert same(rows_of(stage, data, 3)[0], rows_of(reference, data, 3)[0])
    nodes = [weight for key, weight in reference.weights.items() if key[0] == "node"]
    assert max(map(abs, nodes)) >= cap


@pytest.mark.parametrize("name", ["random", "newlines", "repetitive", "text"])
def test_the_contexts_are_what_they_say(name):
    """Hashes that are merely others would be as good, but no other program's."""
    data = data_of(name, 900)
    steps, _ = to_steps(data, 3)
    several = contexts.Contexts(3, len(steps))
    for t, symbols in enumerate(steps):
        for lane in range(3):
            assert several.hashes[:, lane].tolist() == hashes_of(steps[:t, lane].tolist())[0]
            assert several.previous[lane] == (steps[t - 1, lane] if t else 0)
        several.update(symbols)


# ---- exactness --------------------------------------------------------------------------------------


def exploding(monkeypatch):
    """Rates and a cap that drive everything to its bounds."""
    monkeypatch.setattr(mixture, "MIX_RATE", 3e4)
    monkeypatch.setattr(mixture, "HISTORY_RATE", 1.0)
    monkeypatch.setattr(mixture, "MATCH_RATE", 1.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("explode", [False, True])
@pytest.mark.parametrize("lanes", [1, 40])
def test_every_number_is_whole_and_every_sum_within_the_mantissa(lanes, explode, monkeypatch):
    seen = []
    product, einsum, add = exact.wide_product, np.einsum, mixture._add

    def whole(*arrays):
        for array in arrays:
            assert array.dtype == np.float64
            assert (array == np.rint(array)).all()
            assert np.abs(array).max(initial=0) < 2**53
        return [np.abs(array) for array in arrays]

    def checked_product(a, b):
        x, y = whole(a, b)
        seen.append((x @ y).max())
        return product(a, b)

    def checked_einsum(path, a, b):
        x, y = whole(a, b)
        seen.append(einsum(path, x, y).max())
        assert y.max() <= mixture.WEIGHT_CAP
        return einsum(path, a, b)

    def checked_add(table, index, amounts):
        x, y = whole(table, amounts)
        seen.append(x.max() + y.sum())
        add(table, index, amounts)

    monkeypatch.setattr(exact, "wide_product", checked_product)
    monkeypatch.setattr(np, "einsum", checked_einsum)
    monkeypatch.setattr(mixture, "_add", checked_add)
    if explode:
        exploding(monkeypatch)
    for name in ("text", "alternating", "equal"):
        data = data_of(name, 1500 if lanes > 1 else 150)
        stage = new(data, lanes)
        rows, _ = rows_of(stage, data, lanes)
        assert max(seen) < 2**53
        for row in rows:
            assert (whole(row)[0] == row).all()
            assert (row.sum(1) == TOTAL - 16).all()
    if explode:
        assert (np.abs(stage._by_node) == mixture.WEIGHT_CAP).any()
        assert max(seen) > 2**36


@pytest.mark.parametrize("explode", [False, True])
@pytest.mark.parametrize("lanes", [1, 40])
def test_the_order_of_summation_cannot_matter(lanes, explode, monkeypatch):
    """Backwards, and in plain integers: bits differ if anything inexact enters a sum."""
    if explode:
        exploding(monkeypatch)
    data = data_of("text", 2000 if lanes > 1 else 150)
    forward, _ = rows_of(new(data, lanes), data, lanes)
    einsum, add = np.einsum, mixture._add
    with monkeypatch.context() as patch:
        patch.setattr(np, "einsum", lambda _, a, b: np.cumsum((a * b)[:, :, ::-1], 2)[:, :, -1])
        patch.setattr(
            exact,
            "wide_product",
            lambda a, b: np.cumsum((a[..., None] * b[..., None, :, :])[..., ::-1, :], -2)[..., -1, :],
        )
        patch.setattr(
            mixture, "_add", lambda table, index, x: add(table, index.reshape(-1)[::-1], x.reshape(-1)[::-1])
        )
        assert same(rows_of(new(data, lanes), data, lanes)[0], forward)
    with monkeypatch.context() as patch:
        patch.setattr(exact, "check_machine", lambda: False)
        patch.setattr(
            np,
            "einsum",
            lambda path, a, b: einsum(path, a.astype(np.int64), b.astype(np.int64)).astype(np.float64),
        )
        assert same(rows_of(new(data, lanes), data, lanes)[0], forward)


def digest_of_rows():
    hasher = hashlib.blake2b(digest_size=8)
    for lanes, name, n_bytes in ((1, "text", 200), (7, "repetitive", 900), (32, "text", 4000)):
        data = data_of(name, n_bytes)
        for row in rows_of(new(data, lanes), data, lanes)[0]:
            hasher.update(row.astype("<u4").tobytes())
    return hasher.hexdigest()


@pytest.mark.parametrize("kernel", kernels())
def test_the_rows_are_those_of_every_machine(kernel):
    setting = {"OPENBLAS_CORETYPE": kernel} if kernel else {}
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parent), str(here)])
    code = "import test_mixture; print(test_mixture.digest_of_rows())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **setting, "PYTHONPATH": paths},
    )
    assert done.stdout.strip() == ROWS_DIGEST


def test_of_several_assignments_to_one_place_the_last_stays():
    """What the memories rely on, and numpy's reference does not promise for every kind of index."""
    rng = np.random.default_rng(0)
    for n in (3, 100, 5000):
        index, values = rng.integers(0, n // 3, n), rng.integers(0, 256, n).astype(np.uint8)
        out = np.zeros(n, dtype=np.uint8)
        out[index] = values
        expected = dict(zip(index.tolist(), values.tolist(), strict=True))
        assert all(out[at] == value for at, value in expected.items())


# ---- both sides -------------------------------------------------------------------------------------


def coded(data, lanes):
    stage, encoder = new(data, lanes), Encoder()
    steps, last_lanes = to_steps(data, lanes)
    for t, symbols in enumerate(steps):
        if t + 1 == len(steps):
            symbols = symbols[:last_lanes]
            if last_lanes < lanes:
                stage.keep(last_lanes)
        encoder.encode(symbols >> 4, stage.high(net_rows(len(symbols), seed=t)))
        encoder.encode(symbols & 15, stage.low(symbols >> 4))
        if t + 1 < len(steps):
            stage.update(symbols)
    return encoder.finish()


def decoded(payload, n_bytes, lanes):
    stage, decoder = Mixture(lanes, -(-n_bytes // lanes)), Decoder(payload)
    steps, last_lanes = to_steps(bytes(n_bytes), lanes)
    steps = steps.copy()
    for t in range(len(steps)):
        n = last_lanes if t + 1 == len(steps) else lanes
        if n < lanes:
            stage.keep(n)
        high = decoder.decode(stage.high(net_rows(n, seed=t)))
        steps[t, :n] = 16 * high + decoder.decode(stage.low(high))
        if t + 1 < len(steps):
            stage.update(steps[t].astype(np.int32))
    return from_steps(steps, n_bytes)


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 9))
def test_round_trip(n_bytes, lanes, seed):
    data = np.random.default_rng(seed).bytes(100) + data_of("text", 400)[seed:]
    data = data[-n_bytes:]
    assert decoded(coded(data, lanes), n_bytes, lanes) == data


@pytest.mark.parametrize(("n_bytes", "lanes"), [(1, 1), (1, 9), (5, 40), (41, 40), (300, 7), (2500, 33)])
def test_round_trip_of_uneven_lanes(n_bytes, lanes):
    data = data_of("text", n_bytes)
    assert decoded(coded(data, lanes), n_bytes, lanes) == data


# ---- what it is for ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "n_bytes", "most"), [("repetitive", 1500, 0.6), ("text", 4000, 3.5)])
def test_learning_pays(name, n_bytes, most):
    data = data_of(name, n_bytes)
    _, bits = rows_of(new(data, 4), data, 4, "uniform")
    assert bits < most * n_bytes


def test_noise_costs_little():
    data = data_of("random", 2000)
    _, bits = rows_of(new(data, 8), data, 8, "uniform")
    assert 8 * len(data) < bits < 8.3 * len(data)


def test_a_perfect_net_is_believed():
    data = data_of("random", 2000)
    _, bits = rows_of(new(data, 8), data, 8, "sure")
    assert bits < 0.3 * len(data)


def test_the_longest_repetition_is_followed():
    """Noise that comes again, at any distance and in another lane."""
    noise = data_of("random", 400)
    bits = {}
    for lanes, data in ((1, noise + noise), (2, noise + noise[-200:] + noise[:200])):
        _, bits[lanes] = rows_of(new(data, lanes), data, lanes, "uniform")
    assert bits[1] < 0.62 * 8 * 800
    several = contexts.Contexts(1, 800)
    for t, byte in enumerate(noise + noise):
        if t >= 400 + contexts.MATCH_BYTES:
            assert several.matched[0] == 256 + byte
            assert several.length[0] == contexts._LENGTHS[min(t - 400, 79)]
        elif t < 400:
            assert several.matched[0] == 0
        several.update(np.array([byte]))


# ---- memory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lanes", "steps"), [(1, 1), (1, 1000), (7, 1234), (64, 1 << 14), (64, 1 << 15)])
def test_memory_is_bounded(lanes, steps):
    stage = Mixture(lanes, steps)
    memory = stage._histories.nbytes
    assert memory == max(49152, min(192 * 2 ** (2 * lanes * steps).bit_length() // 2, 192 << 20))
    assert memory <= max(49152, 384 * lanes * steps)
    assert stage._contexts._places.nbytes <= 8 << 20
    others = [x for x in vars(stage).values() if isinstance(x, np.ndarray) and x.base is None]
    assert sum(x.nbytes for x in others) - memory < 500_000 + 8000 * lanes


# ---- histories --------------------------------------------------------------------------------------


def test_every_history_is_reached_and_fits_a_byte():
    reached, new_ones = {0}, [0]
    for state in new_ones:
        for bit in (0, 1):
            then = int(histories.NEXT[bit, state])
            if then not in reached:
                reached.add(then)
                new_ones.append(then)
    assert reached == set(range(histories.HISTORIES))
    assert histories.HISTORIES <= 256
    assert histories.NEXT.shape == (2, histories.HISTORIES)


def after(bits):
    state = 0
    for bit in bits:
        state = int(histories.NEXT[bit, state])
    return state


def test_short_histories_are_remembered_in_order():
    short = [tuple(n >> k & 1 for k in range(length)) for length in range(4) for n in range(2**length)]
    assert len({after(bits) for bits in short}) == len(short)


def test_histories_count():
    counts = {
        state: histories._STATES[after([state // 100] * (state % 100))][:2] for state in (2, 40, 102, 140)
    }
    assert counts == {2: (2, 0), 40: (40, 0), 102: (0, 2), 140: (0, 40)}
    for first in (0, 1):
        full = [first] * 200
        top = histories._STATES[after(full)]
        assert max(top[:2]) == histories.BOUNDS[0]
        turned = histories._STATES[after([*full, 1 - first])]  # one that contradicts a long run shortens it
        assert turned[1 - first] == 1
        assert turned[first] == histories.BOUNDS[0].bit_length()
    assert after([0, 0, 1, 1, 0]) != after([0, 0, 1, 0, 1])  # the last one counts while there are few
    for zeros, ones, _ in histories._STATES:
        assert max(zeros, ones) <= histories.BOUNDS[min(zeros, ones)]


def test_initial_probabilities_are_those_of_the_counts():
    probabilities = histories.initial_probabilities()
    assert probabilities[0] == 0.5
    assert (probabilities[[after([1]), after([0, 0])]] == [7 / 9, 2 / 14]).all()
    for state in range(histories.HISTORIES):
        zeros, ones, _ = histories._STATES[state]
        assert probabilities[state] == pytest.approx((ones + 0.4) / (zeros + ones + 0.8))


# ---- tables -----------------------------------------------------------------------------------------


def test_logarithms_are_near():
    numbers = np.unique(np.rint(np.geomspace(1, TOTAL, 3000)))
    assert np.abs(mixture.logarithm(numbers) / 256 - np.log(numbers)).max() < 1 / 1000
    assert [float(x) for x in mixture.logarithm(numbers)] == [ln(x) for x in numbers]


def test_inputs_of_all_probabilities():
    table = mixture.input_table()
    assert table.shape == (65536, 2)
    assert (table == np.rint(table)).all()
    assert (table[::-1, 0] == -table[:, 0]).all()
    assert (np.diff(table[:, 0]) >= 0).all()
    for p in (32, 33, 1000, 32768, 65504):
        assert (table[p] == both(p)).all()
