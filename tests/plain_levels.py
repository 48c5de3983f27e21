"""The integer model once more: whole numbers in lists, one lane, one step after another (FORMAT.md).

Slow and obvious; what chunker.core.levels computes for many lanes at once is compared with it. `some_tensors`
makes integer tensors of every size that a model may have.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np

from chunker.config import NO_GUESS, TIME_BOUNDS, TIME_BUCKETS, StackConfig
from chunker.core.layout import BIAS_LIMIT, MATRICES, PRODUCT_LIMIT, integer_layout, kind
from chunker.core.ngrams import BASE, SPREAD
from chunker.core.tables import sigmoid_table, tanh_table, weight_table

Row = list[int]
SIGMOID, TANH, WEIGHTS = sigmoid_table().tolist(), tanh_table().tolist(), weight_table().tolist()
KINDS = ("random", "wild", "limit", "zero")


def some_tensors(config: StackConfig, seed: int, size: str) -> dict[str, np.ndarray]:
    """Integer tensors: of no size, of about a trained model's, of any size, or as large as may be."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    layout = integer_layout(config)
    for name, (dtype, shape) in layout.items():
        if name.endswith(".q"):
            top = 127 if size != "zero" else 0
            q = rng.choice([-top, top], shape) if size == "limit" else rng.integers(-top, top + 1, shape)
            tensors[name] = q.astype(dtype)
    for name, (dtype, shape) in layout.items():
        if name.endswith(".multiplier"):
            most = np.full(shape, 2**31 - 1)
            if kind(name) in MATRICES:
                q = tensors[name.removesuffix("multiplier") + "q"]
                sums = np.maximum(127 * np.abs(q.astype(np.int64)).sum(0), 1)
                most = np.minimum(most, (PRODUCT_LIMIT - 1) // sums)
            if size == "wild":
                most = np.exp(rng.uniform(0, np.log(most))).astype(np.int64)
            elif size == "random":
                most = np.minimum(most, rng.integers(2**20, 2**23, shape))
            elif size == "zero":
                most = np.ones(shape)
            tensors[name] = most.astype(dtype)
        elif name == "thresholds":
            tensors[name] = rng.choice([0, 100, 128, 129, 300, 5000], shape).astype(dtype)
        elif name not in tensors:
            top = {"random": 2000, "zero": 0}.get(size, BIAS_LIMIT - 1)
            tensors[name] = rng.integers(-top, top + 1, shape).astype(dtype)
    return tensors


def clip(value: int, limit: int) -> int:
    return max(-limit, min(limit, value))


def sigmoid(a: int) -> int:
    return int(SIGMOID[clip((clip(a, 32767) + 4) >> 3, 3072) + 3072])


def tanh(a: int) -> int:
    return int(TANH[clip((clip(a, 32767) + 4) >> 3, 1536) + 1536])


def narrow(h: Row) -> Row:
    return [clip((value + 128) >> 8, 127) for value in h]


class PlainLevel:
    """One level in one lane."""

    def __init__(self, config: StackConfig, index: int, tensors: dict[str, Any]) -> None:
        self.config, self.index, self.width = config, index, config.levels[index]
        own = {name: t for name, t in tensors.items() if name.startswith(f"{index}.")}
        self.tensors = {name.removeprefix(f"{index}."): t.tolist() for name, t in own.items()}
        self.h, self.c = [0] * self.width, [0] * self.width
        self.symbols: Row = []
        self.since, self.fresh = 0, True
        self.waited = [0] * index
        self.remembered: list[dict[int, int]] = [{} for _ in range(index)]

    def product(self, name: str, x8: Row) -> Row:
        q, multiplier = self.tensors[f"{name}.q"], self.tensors[f"{name}.multiplier"]
        sums = [sum(x * row[j] for x, row in zip(x8, q, strict=True)) for j in range(len(multiplier))]
        return [(s * m + 2**23) >> 24 for s, m in zip(sums, multiplier, strict=True)]

    def row(self, name: str, which: int) -> Row:
        q, multiplier = self.tensors[f"{name}.q"][which], self.tensors[f"{name}.multiplier"]
        return [(x * m + 2**16) >> 17 for x, m in zip(q, multiplier, strict=True)]

    def code(self) -> Row:
        """The vector of the n-grams that end here, as it enters a product."""
        ngrams = self.config.ngrams
        assert ngrams is not None
        multiplier = self.tensors["ngram_table.multiplier"]
        total = [0] * ngrams.width
        for number, order in enumerate(ngrams.orders):
            last = self.symbols[::-1][:order]
            key = sum((symbol + 1) * BASE**i for i, symbol in enumerate(last)) % 2**32
            row = number * ngrams.rows + key * SPREAD % 2**32 * ngrams.rows // 2**32
            total = [t + q for t, q in zip(total, self.tensors["ngram_table.q"][row], strict=True)]
        return [clip((t * m + 2**16) >> 17, 127) for t, m in zip(total, multiplier, strict=True)]

    def step(self, symbol: int, bucket: int, below: Row, guess: int = NO_GUESS, confidence: int = 0) -> None:
        """Read one input; below: the state of the level below."""
        H, t = self.width, self.tensors
        self.symbols.append(symbol)
        parts = [self.row("symbol_input", symbol), t["bias"]]
        if "time_input.q" in t:
            parts.append(self.row("time_input", bucket))
        if "guess_input.q" in t:
            parts += [self.row("guess_input", guess), self.row("confidence_input", confidence)]
        if "ngram_table.q" in t:
            parts.append(self.product("below", self.code()))
        elif "below.q" in t:
            parts.append(self.product("below", narrow(below)))
        a = [sum(column) for column in zip(*parts, strict=True)]
        g = self.product("recurrent", narrow(self.h))
        for k, h in enumerate(self.h):
            block = [a[i + k] + g[i + k] for i in range(0, len(a), H)]
            if self.config.cell == "rnn":
                self.h[k] = tanh(block[0])
            elif self.config.cell == "gru":
                r, z = sigmoid(block[0]), sigmoid(block[1])
                m = clip(g[2 * H + k] + t["candidate_bias"][k], 32767)
                n = tanh(a[2 * H + k] + ((r * m + 2**14) >> 15))
                self.h[k] = n + ((z * (h - n) + 2**14) >> 15)
            else:
                i, f, o, u = *map(sigmoid, block[:3]), tanh(block[3])
                self.c[k] = clip((f * self.c[k] + i * u + 2**14) >> 15, 2**20 - 1)
                self.h[k] = (o * tanh((self.c[k] + 8) >> 4) + 2**14) >> 15

    def logits(self) -> Row:
        z = self.product("readout", narrow(self.h))
        if self.index and self.config.mode == "joint":
            return z
        return [x + b for x, b in zip(z, self.tensors["readout_bias"], strict=True)]

    def time_logits(self) -> list[Row]:
        """Of each clock."""
        z = self.product("time_readout", narrow(self.h))
        z = [x + b for x, b in zip(z, self.tensors["time_readout_bias"], strict=True)]
        return [z[i * TIME_BUCKETS : (i + 1) * TIME_BUCKETS] for i in range(self.index)]


def weigh(logits: Row) -> Row:
    top = max(logits)
    return [int(WEIGHTS[min(top - z, 23 * 128)]) for z in logits]


class PlainStack:
    """A stack in one lane; `weights` and `read` as those of a Session."""

    def __init__(self, config: StackConfig, tensors: dict[str, Any]) -> None:
        self.config, self.thresholds = config, tensors["thresholds"].tolist()
        self.levels = [PlainLevel(config, i, tensors) for i in range(len(config.levels))]

    def level_logits(self) -> list[Row]:
        found: list[Row] = []
        for level in self.levels:
            own = level.logits()
            if level.index and self.config.mode == "joint":
                own = [x + y for x, y in zip(found[-1], own, strict=True)]
            found.append(own)
        return found

    def expects(self, logits: Row, symbol: int, gate: int) -> bool:
        """Whether the level below a gate expects the symbol (or the bucket of a time)."""
        if self.config.gate.rule == "word":
            return chr(symbol).isalpha() or symbol > 127
        first = symbol == logits.index(max(logits))
        steps = self.thresholds[gate]
        if self.config.gate.rule == "argmax":
            return first
        weights = weigh(logits)
        likely = weights[symbol] * 2**23 >= sum(weights) * WEIGHTS[min(steps, 23 * 128)]
        return likely and (first or steps > 128)

    def weights(self) -> list[Row]:
        """Of each level's prediction."""
        return [weigh(logits) for logits in self.level_logits()]

    def read(self, symbol: int) -> list[int]:
        """The levels that received it."""
        logits, reads = self.level_logits(), [0]
        for upper in self.levels[1:]:
            lower = self.levels[upper.index - 1]
            if lower.index not in reads:
                break
            expected = self.expects(logits[lower.index], symbol, lower.index)
            if self.config.predicts_time(lower.index):
                expected &= self.on_time(lower, reads)
            if not expected or upper.fresh:
                reads.append(upper.index)
        self.count_clocks(reads)
        for level in self.levels:
            level.since += 1
            if level.index in reads:
                below = self.levels[level.index - 1].h if level.index else []
                level.step(symbol, bisect_left(TIME_BOUNDS, level.since) if level.index else 0, below)
                level.since, level.fresh = 0, False
        return reads

    def on_time(self, level: PlainLevel, reads: list[int]) -> bool:
        """Whether an input of the level at this moment comes when it expects one."""
        for clock, logits in enumerate(level.time_logits()):
            time = level.waited[clock] + 1
            bucket = bisect_left(TIME_BOUNDS, time)
            if (
                not self.expects(logits, bucket, level.index)
                or level.remembered[clock].get(bucket, 0) != time
            ):
                return False
        return True

    def count_clocks(self, reads: list[int]) -> None:
        for level in self.levels[:-1]:
            if self.config.predicts_time(level.index):
                for clock in range(level.index):
                    level.waited[clock] += clock in reads
                if level.index in reads:
                    for clock, time in enumerate(level.waited):
                        level.remembered[clock][bisect_left(TIME_BOUNDS, time)] = time
                    level.waited = [0] * level.index
