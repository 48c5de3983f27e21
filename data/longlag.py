"""Tasks of the long-time-lag literature that history compression is compared on.

Sources
-------
Cleeremans, Servan-Schreiber & McClelland 1989: Finite state automata and simple recurrent networks. Neural
    Computation 1(3):372-381.
Hochreiter & Schmidhuber 1997: Long short-term memory. Neural Computation 9(8):1735-1780.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from chunker.data.tasks import Case, Integers, Task, check_whole
from chunker.errors import UsageError

# A grammar is a list of nodes, each a dictionary symbol -> next node. A string begins in node 0 and is
# complete when it is there again; where a node has two ways on, both are equally likely.
Grammar = list[dict[int, int]]

REBER_ALPHABET = ("B", "T", "P", "S", "X", "V", "E")
_B, _T, _P, _S, _X, _V, _E = range(7)

REBER: Grammar = [
    {_B: 1},
    {_T: 2, _P: 3},
    {_S: 2, _X: 4},
    {_T: 3, _V: 5},
    {_X: 3, _S: 6},
    {_P: 4, _V: 6},
    {_E: 0},
]


def _embed() -> Grammar:
    """B, then T or P, then a string of the Reber grammar, then the same T or P, then E.

    Nodes: 0, 1; for T and for P a copy of the Reber grammar, each followed by one node for the symbol that
    comes again; the last node, before E.
    """
    first = {_T: 2, _P: 2 + len(REBER) + 1}
    last = 2 + 2 * (len(REBER) + 1)
    nodes: Grammar = [{_B: 1}, first]
    for symbol, base in first.items():
        for edges in REBER:
            nodes.append({s: base + (to or len(REBER)) for s, to in edges.items()})
        nodes.append({symbol: last})
    return [*nodes, {_E: 0}]


EMBEDDED_REBER: Grammar = _embed()


def follow(grammar: Grammar, symbols: npt.ArrayLike) -> Integers:
    """The nodes (n + 1,) before, between and after the symbols (n,), from node 0; -1 from a wrong one on."""
    found = np.full(np.size(symbols) + 1, -1, dtype=np.int64)
    node = found[0] = 0
    for i, symbol in enumerate(np.asarray(symbols).tolist()):
        if symbol not in grammar[node]:
            break
        node = found[i + 1] = grammar[node][symbol]
    return found


@dataclass(frozen=True)
class EmbeddedReber(Task):
    """The embedded Reber grammar: the last symbol but one is the second, a whole Reber string later.

    Cleeremans et al. 1989; Hochreiter & Schmidhuber 1997, experiment 1. A string is B, T or P, a string of
    the Reber grammar, the same T or P again, E. All alternatives are equally likely. The shortest strings
    have 9 symbols, and the lag has no upper bound.
    """

    @property
    def alphabet(self) -> tuple[str, ...]:
        return REBER_ALPHABET

    def sample(self, rng: np.random.Generator) -> Case:
        symbols: list[int] = []
        node = 0
        while not symbols or node:
            ways = tuple(EMBEDDED_REBER[node].items())
            symbol, node = ways[int(rng.integers(len(ways)))]
            symbols.append(symbol)
        targets = np.array([len(symbols) - 2], dtype=np.int64)
        return Case(np.array(symbols, dtype=np.int64), label=None, targets=targets)


def legal_next(symbols: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which symbols may come after each one of a stream of embedded Reber strings.

    From symbols (n,), beginning with a string's first one, to (n, 7) bool: row t has the symbols that may
    come at t + 1. After a string's last symbol that is only the B of the next string. In the row before the
    last symbol but one of a string it is only the T or P that the string began with.

    Raises
    ------
    UsageError: the symbols are not of the grammar.
    """
    nodes = follow(EMBEDDED_REBER, symbols)
    if nodes[-1] < 0:
        wrong = int(np.argmin(nodes)) - 1
        raise UsageError(
            f"the symbol at position {wrong} is not of the embedded Reber grammar;"
            " give whole strings from their first symbol on"
        )
    table = np.zeros((len(EMBEDDED_REBER), len(REBER_ALPHABET)), dtype=np.bool_)
    for node, edges in enumerate(EMBEDDED_REBER):
        table[node, list(edges)] = True
    return table[nodes[1:]]


@dataclass(frozen=True)
class VectorCase:
    """One sequence of numbers. inputs: (n, 2) float32. target: what is to be told after the last input."""

    inputs: npt.NDArray[np.float32]
    target: float


@dataclass(frozen=True)
class Adding:
    """Add two marked numbers that lie far apart (Hochreiter & Schmidhuber 1997, experiment 4).

    An input is a pair of a value, uniform in [-1, 1], and a marker. The number of pairs is uniform from
    T = `length` to T + T/10. The marker is 1 for two pairs, -1 for the first and the last, else 0. One of
    the first ten pairs is marked, its value is X1; then one of the first T/2 - 1 pairs that are not marked
    yet, its value is X2. The target is 0.5 + (X1 + X2) / 4. If the first pair is drawn, its value counts
    as zero in the target and its marker stays -1; the paper says the former of X1 only, and of the marker
    nothing.
    """

    length: int

    def __post_init__(self) -> None:
        check_whole("the length", self.length, 12)  # or the last pair could be among those that are marked

    def sample(self, rng: np.random.Generator) -> VectorCase:
        n = int(rng.integers(self.length, self.length + self.length // 10 + 1))
        inputs = np.zeros((n, 2), dtype=np.float32)
        inputs[:, 0] = rng.uniform(-1, 1, n)
        one = int(rng.integers(10))
        other = int(rng.integers(self.length // 2 - 1))
        other += other >= one  # skips the pair that is marked already
        marked = [i for i in (one, other) if i > 0]
        inputs[marked, 1] = 1
        inputs[[0, -1], 1] = -1
        return VectorCase(inputs, target=0.5 + float(inputs[marked, 0].sum(dtype=np.float64)) / 4)


@dataclass(frozen=True)
class TemporalOrder(Task):
    """In which order did two symbols come (Hochreiter & Schmidhuber 1997, task 6a).

    E, then letters a to d at random, then B, which asks for the class; at two positions t1 < t2 there is X
    or Y instead of a letter. The number of symbols is uniform from `low` to `high`, E and B included. With
    the paper's 100 and 110, t1 is uniform in 10..20 and t2 in 50..60; with others they are at the same
    shares of `low`. Positions count from 0, which the paper leaves open.

    Classes: X X is 0, X Y is 1, Y X is 2, Y Y is 3 (Q, R, S, U in the paper).
    """

    classes: ClassVar[int] = 4

    low: int = 100
    high: int = 110

    def __post_init__(self) -> None:
        check_whole("the least length", self.low, 10)
        check_whole("the greatest length", self.high, self.low)

    @property
    def alphabet(self) -> tuple[str, ...]:
        return ("E", "B", "a", "b", "c", "d", "X", "Y")

    def sample(self, rng: np.random.Generator) -> Case:
        n = int(rng.integers(self.low, self.high + 1))
        first = int(rng.integers(self.low // 10, self.low * 2 // 10 + 1))
        second = int(rng.integers(self.low * 5 // 10, self.low * 6 // 10 + 1))
        symbols = rng.integers(2, 6, size=n)
        label = int(rng.integers(4))
        symbols[[0, first, second, -1]] = 0, 6 + label // 2, 6 + label % 2, 1
        return Case(symbols, label, targets=np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class FirstSymbol(Task):
    """The class of a sequence is its first symbol, a or b; the lag is its length.

    After it the digits count up, 9 is followed by 0, and at `jumps` random places they go on from another
    digit: regular but for those, and the same for both classes. Classification at lags of Hochreiter &
    Schmidhuber 1997, task 2a, and far above.
    """

    classes: ClassVar[int] = 2

    length: int = 100
    jumps: int = 8

    def __post_init__(self) -> None:
        check_whole("the length", self.length, 3)
        check_whole("the number of jumps", self.jumps, 0)
        if self.jumps > self.length - 2:
            raise UsageError(f"{self.jumps} jumps do not fit into {self.length} symbols; choose fewer")

    @property
    def alphabet(self) -> tuple[str, ...]:
        return (*map(str, range(10)), "a", "b")

    def sample(self, rng: np.random.Generator) -> Case:
        label = int(rng.integers(2))
        jumps = np.sort(rng.choice(np.arange(2, self.length), self.jumps, replace=False))
        begins = np.concatenate([[1], jumps])
        ends = np.concatenate([jumps, [self.length]])
        starts = rng.integers(10, size=len(begins))
        runs = [
            (start + np.arange(end - begin)) % 10
            for start, begin, end in zip(starts, begins, ends, strict=True)
        ]
        symbols = np.concatenate([[10 + label], *runs])
        return Case(symbols, label, targets=np.empty(0, dtype=np.int64))
