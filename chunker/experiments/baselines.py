"""Baselines trained end to end: a plain recurrent net, an LSTM, an LSTM with chrono biases.

    cases --.                                                 .--> cross entropy of each next symbol
            +--> inputs (T, B) --> one recurrent layer (T, B, H)
    stream -'                                                 '--> squared error after the last (Adding)

    net          cell                       forget gates' bias                   loss of a symbol task
    rnn          tanh                                                            mean of all symbols
    lstm         Gers et al. 2000           1 (Jozefowicz et al. 2015)           mean of all symbols
    lstm-chrono  the same                   log of uniform 1 .. T - 1, input     targets weigh T times as much
                                            gates its negative (T: symbols
                                            of a sequence; Tallec & Ollivier
                                            2018, Can recurrent neural
                                            networks warp time?)

Without a gradient cut these nets know what the history compressor does not: where each sequence begins (they
start from a zero state there, as in Hochreiter & Schmidhuber 1997), and "lstm-chrono" also how long it is and
which symbols matter. With a cut they read the unbroken stream and keep their state, but gradients flow back
no further than the cut, as in the plain nets of Schmidhuber 1992. All are trained with Adam.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from chunker.config import GATES_PER_CELL
from chunker.data import Adding, Task, stream
from chunker.errors import UsageError
from chunker.learning.recurrence import recur

CELLS = {"rnn": "rnn", "lstm": "lstm", "lstm-chrono": "lstm"}
SURE = 0.75  # a symbol is right above this probability
NEAR = 0.04  # a number is right below this error (Hochreiter & Schmidhuber 1997, experiment 4)
NEAR_SHARE = 0.99  # of the sequences, where a number is the target
TESTS, FIRST_TESTS = 512, 64  # fresh sequences, and how many of them are looked at first
BATCHES_A_TEST = 50  # between two tests, as many sequences as in so many batches
_LEARNING_RATE, _CLIP = 3e-3, 1.0
_TEST_STEPS = 128  # of a stream, read at a time
_WARM = 4  # sequences of a stream that are not counted: it starts cold, as in training it does only once


class Outcome(NamedTuple):
    """solved: within the budget. sequences, seconds: given and taken until then or in all, without tests."""

    solved: bool
    sequences: int
    seconds: float


Integers = npt.NDArray[np.int64]
State = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Batch:
    """B rows side by side, T steps.

    inputs: (T, B) int64 symbols or (T, B, D) float32. wanted: (T, B), the target of each step: the next
    symbol, int64, or a number, float32. counted: (T, B) bool, steps in the loss. targets: (T, B) bool, those
    among them that decide whether the task is solved.
    """

    inputs: Tensor
    wanted: Tensor
    counted: Tensor
    targets: Tensor


class Net(nn.Module):
    """One recurrent layer and a linear readout, all but the biases uniform in +-1 / sqrt(width) at first.

    inputs: size of the alphabet, or of a vector. chrono: T of the table above, None without.
    """

    def __init__(self, cell: str, inputs: int, outputs: int, width: int, chrono: int | None = None) -> None:
        super().__init__()
        self.cell, self.width = cell, width
        blocks, bound = GATES_PER_CELL[cell], width**-0.5

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

        self.input, self.recurrent = uniform(inputs, blocks * width), uniform(width, blocks * width)
        self.readout, self.readout_bias = uniform(width, outputs), uniform(outputs)
        bias = torch.zeros(blocks * width)
        if cell == "lstm":  # blocks i, f, o, u
            bias[width : 2 * width] = 1.0
            if chrono is not None:
                bias[width : 2 * width].uniform_(1, max(chrono - 1, 2)).log_()
                bias[:width] = -bias[width : 2 * width]
        self.bias = nn.Parameter(bias)

    def start(self, rows: int) -> State:
        """A zero state."""
        h = self.bias.new_zeros(rows, self.width)
        return h, h.clone() if self.cell == "lstm" else None

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """States (T, B, H) after each input, and the last one, detached."""
        if inputs.dtype == torch.int64:
            a = nn.functional.embedding(inputs, self.input) + self.bias
        else:
            a = inputs @ self.input + self.bias
        hs, cs = recur(self.cell, a, *state, self.recurrent, None)
        return hs, (hs[-1].detach(), None if cs is None else cs[-1].detach())

    def read(self, hs: Tensor) -> Tensor:
        """Outputs (n, V) of states (n, H)."""
        return hs @ self.readout + self.readout_bias


def train_baseline(
    net: str,
    task: Task | Adding,
    *,
    max_sequences: int,
    max_seconds: float,
    seed: int,
    gradient_cut: int | None = None,
    width: int = 32,
    batch: int = 16,
) -> tuple[Net, Outcome]:
    """Train a net until it solves the task or the budget is used up.

    net: "rnn", "lstm" or "lstm-chrono", see the module. gradient_cut: None: whole sequences, each from a
    reset state, gradients through all of it; else the unbroken stream, gradients cut after so many steps.

    Solved: on 512 fresh sequences every target has a probability above 0.75, of classes when one is asked for
    (the first four of each stream, which starts cold, are not counted); with numbers as targets, 99 % of them
    are met to 0.04.

    Raises
    ------
    UsageError: no such net, or a task of vectors with a gradient cut.
    """
    if net not in CELLS:
        raise UsageError(f"net {net!r} is not known; choose one of {', '.join(CELLS)}")
    if min(max_sequences, width, batch) < 1 or (gradient_cut is not None and gradient_cut < 1):
        raise UsageError("sequences, width, batch and gradient cut must be at least 1")
    rng, tests = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    torch.manual_seed(seed)
    length = len(_batch(task, batch, rng).inputs)
    vectors = isinstance(task, Adding)
    model = new_net(net, task, length, width)
    feed = _feed(task, batch, gradient_cut, rng)
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    weight = float(length) if net == "lstm-chrono" and not vectors else 1.0
    sequences, seconds, tested = 0, 0.0, 0
    state = model.start(batch)
    while True:
        begun = time.monotonic()
        window, cases, goes_on = feed.next(max_sequences - sequences)
        state = state if goes_on else model.start(window.inputs.shape[1])
        hs, state = model(window.inputs, state)
        if bool(window.counted.any()):
            optimizer.zero_grad(set_to_none=True)
            _loss(model, hs, window, weight).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
            optimizer.step()
        sequences += cases
        seconds += time.monotonic() - begun
        over = sequences >= max_sequences or seconds >= max_seconds
        if over or sequences - tested >= BATCHES_A_TEST * batch:
            tested = sequences
            if _solves(model, task, gradient_cut is not None, tests):
                return model, Outcome(True, sequences, seconds)
        if over:
            return model, Outcome(False, sequences, seconds)


def new_net(net: str, task: Task | Adding, length: int, width: int = 32) -> Net:
    """An untrained net for a task, from torch's generator; length: T of the table above."""
    return Net(
        CELLS[net],
        inputs=2 if isinstance(task, Adding) else task.symbols,
        outputs=1 if isinstance(task, Adding) else task.symbols,
        width=width,
        chrono=length if net == "lstm-chrono" else None,
    )


def _loss(model: Net, hs: Tensor, batch: Batch, weight: float) -> Tensor:
    outputs, wanted = model.read(hs[batch.counted]), batch.wanted[batch.counted]
    if wanted.dtype != torch.int64:
        return nn.functional.mse_loss(outputs[:, 0], wanted)
    losses = nn.functional.cross_entropy(outputs, wanted, reduction="none")
    weights = torch.where(batch.targets[batch.counted], weight, 1.0)
    return (losses * weights).sum() / weights.sum()


@torch.no_grad()
def _right(model: Net, task: Task | Adding, hs: Tensor, batch: Batch) -> Tensor:
    """(n,) bool: which of the batch's targets are met."""
    outputs, wanted = model.read(hs[batch.targets]), batch.wanted[batch.targets]
    if isinstance(task, Adding):
        return (outputs[:, 0] - wanted).abs() < NEAR
    return of_asked(torch.softmax(outputs, -1), task).gather(1, wanted.unsqueeze(1))[:, 0] > SURE


def of_asked(probabilities: Tensor, task: Task) -> Tensor:
    """Probabilities (n, V) of targets, given that one is asked for: if the task has classes, among these."""
    if not task.classes:
        return probabilities
    labelled = probabilities * (torch.arange(probabilities.shape[1]) >= len(task.alphabet))
    return labelled / labelled.sum(1, keepdim=True)


@torch.no_grad()
def _solves(model: Net, task: Task | Adding, unbroken: bool, rng: np.random.Generator) -> bool:
    share = NEAR_SHARE if isinstance(task, Adding) else 1.0
    for count in (FIRST_TESTS, TESTS):
        right = []
        if unbroken and isinstance(task, Task):
            rows = FIRST_TESTS // 4
            streams = _Streams(task, rows, rng, _TEST_STEPS, _WARM)
            state = model.start(rows)
            while streams.begun < count + (_WARM + 1) * rows:  # each row's last one is perhaps cut off
                batch, _, _ = streams.next()
                hs, state = model(batch.inputs, state)
                right.append(_right(model, task, hs, batch))
        else:
            for _ in range(count // FIRST_TESTS):
                batch = _batch(task, FIRST_TESTS, rng)
                hs, _ = model(batch.inputs, model.start(FIRST_TESTS))
                right.append(_right(model, task, hs, batch))
        if float(torch.cat(right).float().mean()) < share:
            return False
    return True


class _Feed(Protocol):
    def next(self, most: int) -> tuple[Batch, int, bool]:
        """The next batch of at most so many cases, cases in it, whether it goes on where the last ended."""


def _feed(task: Task | Adding, rows: int, gradient_cut: int | None, rng: np.random.Generator) -> _Feed:
    if gradient_cut is None:
        return _Cases(task, rows, rng)
    if isinstance(task, Adding):
        raise UsageError("sequences of vectors make no unbroken stream here; leave the gradient cut out")
    return _Streams(task, rows, rng, gradient_cut)


@dataclass
class _Cases:
    """Whole cases."""

    task: Task | Adding
    rows: int
    rng: np.random.Generator

    def next(self, most: int) -> tuple[Batch, int, bool]:
        rows = max(1, min(self.rows, most))
        return _batch(self.task, rows, self.rng), rows, False


def _batch(task: Task | Adding, rows: int, rng: np.random.Generator) -> Batch:
    """Whole cases side by side, the shorter ones filled up."""
    if isinstance(task, Adding):
        drawn = [task.sample(rng) for _ in range(rows)]
        longest = max(len(case.inputs) for case in drawn)
        vectors = torch.zeros(longest, rows, 2)
        numbers, ends = torch.zeros(longest, rows), torch.zeros(longest, rows, dtype=torch.bool)
        for row, case in enumerate(drawn):
            n = len(case.inputs)
            vectors[:n, row] = torch.from_numpy(case.inputs)
            numbers[n - 1, row], ends[n - 1, row] = case.target, True
        return Batch(vectors, numbers, ends, ends)
    cases = [_symbols(task, rng) for _ in range(rows)]
    longest = max(len(symbols) for symbols, _ in cases)
    table = torch.zeros(longest, rows, dtype=torch.int64)
    counted, targets = (torch.zeros(longest, rows, dtype=torch.bool) for _ in range(2))
    for row, (symbols, scored) in enumerate(cases):
        table[: len(symbols), row] = torch.from_numpy(symbols)
        counted[: len(symbols), row] = True
        targets[torch.from_numpy(scored), row] = True
    return Batch(table[:-1], table[1:], counted[1:], targets[1:])


def _symbols(task: Task, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """The symbols of a case, the label as the last of them, and the positions of its targets."""
    drawn = stream(task, 1, rng)
    return drawn.symbols, drawn.targets


class _Streams:
    """Unbroken streams side by side, `steps` symbols of each at a time.

    warm: cases at the beginning of each row whose targets do not count. begun: cases read from so far.
    """

    def __init__(self, task: Task, rows: int, rng: np.random.Generator, steps: int, warm: int = 0) -> None:
        self._task, self._rng, self._steps = task, rng, steps
        self._ahead = [np.empty((3, 0), dtype=np.int64) for _ in range(rows)]  # symbol, target?, first?
        self._warm = [warm] * rows
        self.begun = 0

    def next(self, most: int = 0) -> tuple[Batch, int, bool]:
        """See _Feed; `most` is exceeded by less than a batch."""
        taken = np.stack([self._take(row) for row in range(len(self._ahead))], -1)
        begun = int(taken[2, :-1].sum())
        self.begun += begun
        symbols, targets = torch.from_numpy(taken[0]), torch.from_numpy(taken[1] > 0)
        every = torch.ones_like(targets[1:])
        return Batch(symbols[:-1], symbols[1:], every, targets[1:]), begun, True

    def _take(self, row: int) -> Integers:
        """The next symbols of a row and the one after them, (3, steps + 1); that one comes again."""
        ahead = self._ahead[row]
        while ahead.shape[1] <= self._steps:
            symbols, scored = _symbols(self._task, self._rng)
            case = np.zeros((3, len(symbols)), dtype=np.int64)
            case[0], case[2, 0] = symbols, 1
            case[1, scored] = self._warm[row] == 0
            self._warm[row] = max(0, self._warm[row] - 1)
            ahead = np.concatenate([ahead, case], 1)
        self._ahead[row] = ahead[:, self._steps :]
        return ahead[:, : self._steps + 1]
