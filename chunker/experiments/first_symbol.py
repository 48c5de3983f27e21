"""The class of a long sequence is its first symbol; what follows is regular and tells nothing of the class.

    net                 reads                                       trained
    history-classifier  the events of its top level: the first      the stack on the symbols, without labels;
                        symbol and where the counting jumps         then a classifier on 256 labelled cases
    lstm, gru           every symbol, from a reset state,           end to end on the same cases, gradients
                        its last state gives the class              through all of a sequence, with Adam
    gzip-1nn            the class of the nearest of the same        nothing
                        cases, by how well gzip packs both
                        together (normalised compression
                        distance, Cilibrasi & Vitanyi 2005)

No net is given that the first symbol matters. The nets that are trained end to end have as many seconds as
the history classifier took with that seed, or `seconds`; the history classifier's steps are fixed. Solved:
every one of 100 fresh sequences is classified rightly.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chunker import extras
from chunker.data import Case, FirstSymbol
from chunker.data.tasks import Integers
from chunker.experiments.results import Row
from chunker.learning.fitting import descend

CLASSIFIER_NETS = ("history-classifier", "lstm", "gru", "gzip-1nn")
_WIDTH, _BATCH, _LEARNING_RATE, _BETAS = 64, 16, 3e-3, (0.9, 0.999)
_SYMBOLS_A_BATCH = 2**16  # longer sequences come in smaller batches, or states would not fit
_ROWS_A_TEST = 20


@dataclass(frozen=True)
class Plan:
    """cases, tests: sequences with a class to learn from and to be tested on. steps, head_steps: of the
    history classifier's levels and of what reads them. seconds: of the end-to-end nets; None: the history
    classifier's."""

    cases: int = 256
    tests: int = 100
    steps: int = 400
    head_steps: int = 1000
    seconds: float | None = None


def run(
    length: int,
    seeds: int,
    report: Callable[[Row], None],
    plan: Plan | None = None,
    nets: Sequence[str] = CLASSIFIER_NETS,
) -> list[Row]:
    """Those nets on sequences of that length with seeds 0 .. seeds - 1; `report` gets every row at once.

    sequences: that the net was given, each as often as it came. more: accuracy, and of the history classifier
    event_share, the share of the test's symbols that reached its top level.

    Raises
    ------
    MissingExtra: scikit-learn is not installed. UsageError: a length that the task does not have.
    """
    extras.require("sklearn", "this experiment")
    plan = Plan() if plan is None else plan
    task = FirstSymbol(length, jumps=min(8, length // 4))
    rows: list[Row] = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, length])
        cases = [task.sample(rng) for _ in range(plan.cases)]
        tests = [task.sample(rng) for _ in range(plan.tests)]
        seconds = 30.0 if plan.seconds is None else plan.seconds
        for net in nets:
            if net == "history-classifier":
                row = _history(cases, tests, seed, plan)
                seconds = row.seconds if plan.seconds is None else plan.seconds
            elif net == "gzip-1nn":
                row = _nearest(cases, tests, seed)
            else:
                row = _end_to_end(net, task, cases, tests, seed, seconds)
            rows.append(row)
            report(row)
    return rows


def _row(
    net: str, seed: int, given: int, seconds: float, right: NDArray[np.bool_], share: float | None = None
) -> Row:
    more = {"accuracy": round(float(right.mean()), 4)}
    if share is not None:
        more["event_share"] = round(share, 6)
    return Row(net, seed, bool(right.all()), given, seconds, more)


def _labels(cases: list[Case]) -> Integers:
    return np.array([case.label for case in cases], dtype=np.int64)


def _history(cases: list[Case], tests: list[Case], seed: int, plan: Plan) -> Row:
    from chunker.classification import HistoryClassifier, RecurrentHead

    begun = time.monotonic()
    head = RecurrentHead(steps=plan.head_steps, learning_rate=1e-2, dropout=0.0)
    model = HistoryClassifier(
        (32, 32), features="top", steps=plan.steps, window=64, heads=[head], random_state=seed
    ).fit([case.symbols for case in cases], _labels(cases))
    seconds = time.monotonic() - begun
    probabilities, share = model.evaluate([case.symbols for case in tests])
    found = model.classes_[probabilities.argmax(1)]
    given = plan.head_steps * head.batch_for(len(cases))
    return _row("history-classifier", seed, given, seconds, found == _labels(tests), share)


class _Net(nn.Module):
    def __init__(self, net: str, symbols: int) -> None:
        super().__init__()
        self.symbols = symbols
        kind = nn.LSTM if net == "lstm" else nn.GRU
        self.layer = kind(symbols, _WIDTH, batch_first=True)
        self.out = nn.Linear(_WIDTH, 2)

    def forward(self, rows: list[Integers]) -> torch.Tensor:
        """Logits (B, 2) of rows of one length."""
        symbols = torch.from_numpy(np.stack(rows))
        states, _ = self.layer(nn.functional.one_hot(symbols, self.symbols).float())
        logits: torch.Tensor = self.out(states[:, -1])
        return logits


def _end_to_end(
    net: str, task: FirstSymbol, cases: list[Case], tests: list[Case], seed: int, seconds: float
) -> Row:
    begun = time.monotonic()
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    model = _Net(net, len(task.alphabet))
    labels = torch.from_numpy(_labels(cases))
    batch = min(_BATCH, max(_SYMBOLS_A_BATCH // task.length, 1))

    def losses() -> Iterator[Tensor]:
        while True:
            picked = rng.integers(len(cases), size=batch)
            yield nn.functional.cross_entropy(model([cases[i].symbols for i in picked]), labels[picked])

    given = 0
    for steps in descend(losses(), model.parameters(), _LEARNING_RATE, betas=_BETAS):
        given = steps * batch
        if time.monotonic() - begun >= seconds:
            break
    taken = time.monotonic() - begun
    with torch.no_grad():
        rows = [case.symbols for case in tests]
        size = min(_ROWS_A_TEST, batch)
        logits = torch.cat([model(rows[i : i + size]) for i in range(0, len(rows), size)])
    return _row(net, seed, given, taken, logits.argmax(1).numpy() == _labels(tests))


def _nearest(cases: list[Case], tests: list[Case], seed: int) -> Row:
    begun = time.monotonic()
    known = [case.symbols.astype(np.uint8).tobytes() for case in cases]
    sizes = [_packed(row) for row in known]
    found = []
    for case in tests:
        row = case.symbols.astype(np.uint8).tobytes()
        own = _packed(row)
        distances = [
            (_packed(other + row) - min(size, own)) / max(size, own)
            for other, size in zip(known, sizes, strict=True)
        ]
        found.append(cases[int(np.argmin(distances))].label)
    right = np.array(found, dtype=np.int64) == _labels(tests)
    return _row("gzip-1nn", seed, len(cases), time.monotonic() - begun, right)


def _packed(row: bytes) -> int:
    return len(zlib.compress(row, 6))
