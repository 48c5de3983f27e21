"""Sources whose entropy is known, to tell how far a predictor is from the best there can be.

Each source draws symbols (`sample`), knows its entropy rate in bits a symbol (`entropy_bits`), and says how
many bits a given sequence costs under the source's own probabilities (`ideal_bits`): no code that does not
know the sequence can do better on average. The definitions are textbook ones: Cover & Thomas 2006, Elements
of Information Theory, chapter 4 (Markov chains and functions of them); Rabiner 1989, A tutorial on hidden
Markov models, Proceedings of the IEEE 77(2):257-286 (forward algorithm); Cleeremans et al. 1989 (Reber).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from chunker.data.longlag import REBER, REBER_ALPHABET, follow
from chunker.data.tasks import Integers, check_whole
from chunker.errors import UsageError

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_MAX_TABLE = 1 << 20  # entries; as the Python numbers that are drawn with, each takes 32 bytes
_DENSE = 512  # up to so many states the stationary distribution is solved for, above it is iterated
_PIECE = 1 << 16  # symbols drawn or filtered at a time, so that memory does not grow with all of them
_REBER_BITS: Floats = np.log2([len(edges) for edges in REBER])  # of the choice in each node


@dataclass(frozen=True)
class MarkovChain:
    """A Markov chain with random transition probabilities, started in its stationary distribution.

    symbols: size of the alphabet, 2 to 256. order: how many symbols the next one depends on. seed: decides
    the table. concentration: of the symmetric Dirichlet distribution that each row of the table is drawn
    from; small means that few symbols are likely in a context. Well below 0.1 a chain may have parts between
    which it hardly ever moves, so that even long samples differ from `entropy_bits`.

    table: (symbols**order, symbols) float64, P(next symbol | context). A context's row has its oldest symbol
    as the most significant digit. stationary: (symbols**order,) float64, how likely each context is.
    """

    symbols: int
    order: int = 1
    seed: int = 0
    concentration: float = 0.5
    table: Floats = field(init=False, repr=False, compare=False)
    stationary: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_whole("the number of symbols", self.symbols, 2, 256)
        check_whole("the order", self.order, 0, 20)
        check_whole("the seed", self.seed, 0)
        _check_concentration(self.concentration)
        contexts = self.symbols**self.order
        if contexts * self.symbols > _MAX_TABLE:
            raise UsageError(
                f"order {self.order} over {self.symbols} symbols needs a table of more than {_MAX_TABLE}"
                " entries; choose a lower order or fewer symbols"
            )
        rng = np.random.default_rng(self.seed)
        table = rng.dirichlet(np.full(self.symbols, self.concentration), size=contexts)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "stationary", self._stationary())

    def _stationary(self) -> Floats:
        contexts = len(self.table)
        if contexts <= _DENSE:
            moves = np.zeros((contexts, contexts))
            for context, row in enumerate(self.table):
                # Added, not set: with order 0 all symbols lead to the same, the only context.
                np.add.at(moves[context], (context * self.symbols + np.arange(self.symbols)) % contexts, row)
            return stationary_distribution(moves)
        pi = np.full(contexts, 1 / contexts)
        for _ in range(20_000):
            # Rows of pi * table are contexts; without the oldest symbol of each they are the next contexts.
            after = (pi[:, None] * self.table).reshape(self.symbols, -1).sum(0)
            change = float(np.abs(after - pi).sum())
            pi = (after + pi) / 2  # the mean converges for periodic chains too
            if change < 1e-13:
                return np.asarray(pi / pi.sum())
        raise UsageError("the chain mixes too slowly; choose a greater concentration or another seed")

    @property
    def entropy_bits(self) -> float:
        """The entropy rate in bits a symbol: that of each context's row, weighted by its stationary share."""
        return float(self.stationary @ _entropies(self.table))

    def sample(self, n: int, rng: np.random.Generator) -> Bytes:
        """n symbols, (n,) uint8."""
        check_whole("the number of symbols drawn", n, 0)
        contexts, base = len(self.table), self.symbols
        context = int(rng.choice(contexts, p=self.stationary))
        out = np.empty(self.order + n, dtype=np.uint8)
        out[: self.order] = [context // base**i % base for i in reversed(range(self.order))]
        bounds = _bounds(self.table)
        for start in range(self.order, n, _PIECE):
            stop = min(n, start + _PIECE)
            drawn = []
            for u in rng.random(stop - start).tolist():
                symbol = bisect_right(bounds[context], u)
                context = (context * base + symbol) % contexts
                drawn.append(symbol)
            out[start:stop] = drawn
        return out[:n]

    def ideal_bits(self, symbols: npt.ArrayLike) -> float:
        """-log2 P(symbols) of symbols (n,): the length in bits of the best code for this source."""
        given = _checked(symbols, self.symbols)
        n, base, order = len(given), self.symbols, self.order
        head, first = min(n, order), 0
        for symbol in given[:head].tolist():
            first = first * base + symbol
        # The first symbols have no context of full length: all contexts that begin with them count.
        begins = self.stationary.reshape(base**head, -1)[first].sum() if head else 1.0
        context = np.zeros(n - head, dtype=np.int64)
        for i in range(order if n > order else 0):
            context = context * base + given[i : n - order + i]
        with np.errstate(divide="ignore"):
            return float(-np.log2(begins) - np.log2(self.table[context, given[head:]]).sum())


@dataclass(frozen=True)
class HiddenMarkov:
    """A hidden Markov model with random tables, started in its stationary distribution.

    In each step a state gives a symbol and then moves on. Unlike a Markov chain's, the whole past matters.

    states: number of hidden states, 1 to 256. symbols: size of the alphabet, 2 to 256. seed: decides the
    tables. concentration: of the symmetric Dirichlet distribution that all rows are drawn from.

    moves: (states, states) float64, P(next state | state). emits: (states, symbols) float64, P(symbol |
    state). stationary: (states,) float64.
    """

    states: int
    symbols: int
    seed: int = 0
    concentration: float = 0.3
    moves: Floats = field(init=False, repr=False, compare=False)
    emits: Floats = field(init=False, repr=False, compare=False)
    stationary: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_whole("the number of states", self.states, 1, 256)
        check_whole("the number of symbols", self.symbols, 2, 256)
        check_whole("the seed", self.seed, 0)
        _check_concentration(self.concentration)
        rng = np.random.default_rng(self.seed)
        moves = rng.dirichlet(np.full(self.states, self.concentration), size=self.states)
        emits = rng.dirichlet(np.full(self.symbols, self.concentration), size=self.states)
        object.__setattr__(self, "moves", moves)
        object.__setattr__(self, "emits", emits)
        object.__setattr__(self, "stationary", stationary_distribution(moves))

    @property
    def entropy_bits(self) -> float:
        """An estimate of the entropy rate in bits a symbol, which has no closed form.

        The mean entropy of the exact prediction of the next symbol given all before it (forward algorithm),
        over 2**17 symbols of a sample of its own, seeded by `seed`, after 2**12 symbols that are not counted:
        there the prediction does not know the far past yet. `entropy_error_bits` is its standard error.
        """
        return self._estimate[0]

    @property
    def entropy_error_bits(self) -> float:
        """The standard error of `entropy_bits`, from the means of 64 stretches of 2**11 symbols."""
        return self._estimate[1]

    @cached_property
    def _estimate(self) -> tuple[float, float]:
        rng = np.random.default_rng([self.seed, 1])  # not the numbers that the tables were drawn from
        given = self.sample((1 << 12) + (1 << 17), rng).astype(np.int64)
        entropies = np.concatenate([_entropies(states @ self.emits) for states, _ in self._filter(given)])
        means = entropies[1 << 12 :].reshape(64, -1).mean(1)
        return float(means.mean()), float(means.std(ddof=1) / math.sqrt(len(means)))

    def sample(self, n: int, rng: np.random.Generator) -> Bytes:
        """n symbols, (n,) uint8."""
        check_whole("the number of symbols drawn", n, 0)
        state = int(rng.choice(self.states, p=self.stationary))
        moves, emits = _bounds(self.moves), _bounds(self.emits)
        out = np.empty(n, dtype=np.uint8)
        for start in range(0, n, _PIECE):
            stop = min(n, start + _PIECE)
            drawn = []
            for u, v in rng.random((stop - start, 2)).tolist():
                drawn.append(bisect_right(emits[state], u))
                state = bisect_right(moves[state], v)
            out[start:stop] = drawn
        return out

    def ideal_bits(self, symbols: npt.ArrayLike) -> float:
        """-log2 P(symbols) of symbols (n,), by the forward algorithm; a million take some seconds."""
        given = _checked(symbols, self.symbols)
        with np.errstate(divide="ignore"):
            return -sum(float(np.log2(likely).sum()) for _, likely in self._filter(given))

    def _filter(self, given: Integers) -> Iterator[tuple[Floats, Floats]]:
        """For each stretch of symbols: (m, states), P(state | symbols before); (m,), P(symbol | the same)."""
        steps = self.emits.T[:, :, None] * self.moves  # (symbols, states, states): sees a symbol, moves on
        state = self.stationary
        for start in range(0, len(given), _PIECE):
            piece = given[start : start + _PIECE]
            before = np.empty((len(piece), self.states))
            for i, symbol in enumerate(piece.tolist()):
                before[i] = state
                state = state @ steps[symbol]
                total = np.add.reduce(state)
                state = state / total if total > 0 else state  # 0: impossible, and so is what comes after it
            yield before, np.einsum("ts,ts->t", before, self.emits.T[piece])


@dataclass(frozen=True)
class ReberSource:
    """Strings of the Reber grammar one after the other, without end, all alternatives equally likely.

    Cleeremans et al. 1989, and see `chunker.data.longlag.REBER`. A sample begins with a string's B and may
    end within one.
    """

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The names of the symbols: symbol i is alphabet[i]."""
        return REBER_ALPHABET

    @property
    def symbols(self) -> int:
        """The size of the alphabet."""
        return len(REBER_ALPHABET)

    @cached_property
    def entropy_bits(self) -> float:
        """The entropy rate in bits a symbol: the share of the symbols that are one of two alternatives."""
        moves = np.zeros((len(REBER), len(REBER)))
        for node, edges in enumerate(REBER):
            for to in edges.values():
                moves[node, to] += 1 / len(edges)
        return float(stationary_distribution(moves) @ _REBER_BITS)

    def sample(self, n: int, rng: np.random.Generator) -> Bytes:
        """n symbols, (n,) uint8."""
        check_whole("the number of symbols drawn", n, 0)
        ways = [tuple(edges.items()) for edges in REBER]
        ways = [edges * (2 // len(edges)) for edges in ways]  # so that one bit always chooses
        out = np.empty(n, dtype=np.uint8)
        node = 0
        for start in range(0, n, _PIECE):
            stop = min(n, start + _PIECE)
            drawn = []
            for bit in rng.integers(2, size=stop - start).tolist():
                symbol, node = ways[node][bit]
                drawn.append(symbol)
            out[start:stop] = drawn
        return out

    def ideal_bits(self, symbols: npt.ArrayLike) -> float:
        """-log2 P(symbols) of symbols (n,) from a string's beginning on; infinite if they are not legal."""
        nodes = follow(REBER, _checked(symbols, self.symbols))
        return math.inf if nodes[-1] < 0 else float(_REBER_BITS[nodes[:-1]].sum())


def stationary_distribution(moves: Floats) -> Floats:
    """(k,) float64, the distribution that a chain with transition probabilities (k, k) keeps."""
    k = len(moves)
    system = np.vstack([moves.T - np.eye(k), np.ones(k)])
    right = np.append(np.zeros(k), 1.0)
    pi = np.clip(np.linalg.lstsq(system, right, rcond=None)[0], 0, None)
    return np.asarray(pi / pi.sum())


def _entropies(rows: Floats) -> Floats:
    """(k,) from distributions (k, m): the entropy of each in bits."""
    logs = np.log2(rows, out=np.zeros_like(rows), where=rows > 0)
    return np.asarray(-(rows * logs).sum(-1))


def _bounds(table: Floats) -> list[list[float]]:
    """For `bisect_right` with a number from [0, 1): where each row's choices but the last end."""
    return [row[:-1] for row in np.cumsum(table, axis=1).tolist()]


def _checked(symbols: npt.ArrayLike, size: int) -> Integers:
    given = np.asarray(symbols)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise UsageError("the symbols must be whole numbers in one row; give a one-dimensional integer array")
    if given.size and not (given.min() >= 0 and given.max() < size):
        raise UsageError(f"a symbol is outside of the source's alphabet; give symbols from 0 to {size - 1}")
    return given.astype(np.int64)


def _check_concentration(value: float) -> None:
    if not 0.01 <= value <= 1e6:
        raise UsageError(f"a concentration of {value} makes no sense; choose one from 0.01 to 1000000")
