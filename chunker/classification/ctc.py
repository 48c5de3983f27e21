"""Unsegmented targets: connectionist temporal classification on a stack's level (Graves et al. 2006).

The net gives for every event a distribution over the labels and "blank"; a labelling's probability is the sum
over all ways to spread it over the events. torch's `ctc_loss` trains it; decoding is greedy or by prefix
beam search.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from chunker.classification.heads import Cases, RecurrentHead
from chunker.classification.inputs import Array, as_rows
from chunker.classification.nets import Reading, RecurrentNet
from chunker.classification.preparing import HistoryEstimator
from chunker.errors import UsageError
from chunker.learning.config import check_count
from chunker.learning.history import batches

BLANK = 0


class EventNet(RecurrentNet):
    """A recurrent net without pooling, that says something of every event of one level."""

    def events(self, rows: list[list[Reading]]) -> tuple[Tensor, Tensor]:
        """Log-probabilities (E, B, labels + 1), blank first, and the number of events of each row (B,)."""
        parts = self.states(rows)
        counts = parts[0][1].sum(0)
        states = [parts[0][0]]
        if len(parts) == 2:  # the backward copy's states in the order of time
            E, B, H = parts[1][0].shape
            where = (counts - 1 - torch.arange(E).unsqueeze(1)).clamp_min(0)
            states.append(parts[1][0].gather(0, where.unsqueeze(-1).expand(E, B, H)))
        logits = self.out(self.dropout(self.norm(torch.cat(states, -1))))
        return torch.log_softmax(logits, -1), counts


@dataclass(eq=False, repr=False, kw_only=True)
class HistoryTranscriber(HistoryEstimator):
    """Sequences to sequences of labels, of unknown alignment.

    Parameters
    ----------
    levels, cell, gate, steps, window, kind, per_case, deltas, random_state: of the stack and its inputs;
        see HistoryEstimator. gate="auto" is 1 bit for symbols and half of the vectors.
    features: "top": only events of the top level are seen; "all": every input of the lowest level.
    head: a RecurrentHead, untrained, whose pooling, members and label_smoothing are not used; None:
        RecurrentHead(backwards=True, steps=1000, noise=0.3, warp=0.2). Its parameters are reached as
        `head__steps`.
    beam_width: prefixes that the beam search keeps; 0: greedy decoding. May be changed after fitting.

    Attributes
    ----------
    labels_: what targets are made of. head_: the trained head. stack_: the stack. growth_: a report for
    each level.
    event_share_: share of the training inputs that the transcribing level received.
    """

    AUTO_SHARE: ClassVar[float] = 0.5

    per_case: bool = True
    deltas: bool = True
    features: str = "top"
    head: RecurrentHead | None = None
    beam_width: int = 0

    def fit(self, X: Any, y: Any) -> HistoryTranscriber:
        """Pre-train on X, then learn the targets y, one sequence of labels (or a string) for each.

        Raises
        ------
        UsageError: sequences, targets or parameters that cannot be used; a target that is longer than the
        events of its sequence can express. TrainingError: the loss is no longer finite.
        """
        self._check()
        sequences = self._sequences(X, fitting=True)
        targets = check_targets(y, len(sequences))
        check_expressible(targets, [len(row) for row in sequences], "inputs; leave it out or correct it")
        self.labels_: list[Any] = sorted({label for target in targets for label in target}, key=str)
        numbers = {label: i + 1 for i, label in enumerate(self.labels_)}
        lengths = torch.tensor([len(target) for target in targets])
        padded = torch.zeros(len(targets), max(int(lengths.max()), 1), dtype=torch.int64)
        for i, target in enumerate(targets):
            padded[i, : len(target)] = torch.tensor([numbers[label] for label in target])
        with self._seeded() as (_, random):
            self._pretrain(sequences, random)
            cases = Cases(sequences, self.stack_.read(sequences))
            self.make_net()
            readings = cases.readings(self.net_)
            events = [len(row[0].at) for row in readings]
            check_expressible(targets, events, "events at the level that transcribes; give features='all'")

            def loss(rows: list[list[Reading]], picked: Tensor) -> Tensor:
                logs, counts = self.net_.events(rows)
                return torch.nn.functional.ctc_loss(
                    logs, padded[picked], counts, lengths[picked], BLANK, zero_infinity=True
                )

            self.head_.train(self.net_, readings, loss, random)
        self.event_share_ = sum(len(r[0].at) for r in readings) / max(sum(map(len, sequences)), 1)
        return self

    def _check(self) -> None:
        super()._check()
        check_count("beam_width", self.beam_width, 0)
        if not isinstance(self.head, RecurrentHead | None):
            raise UsageError(f"head must be a RecurrentHead, not {self.head!r}")
        if self.head is not None:
            self.head.check()

    def make_net(self) -> None:
        """Make the untrained net on the trained stack."""
        default = RecurrentHead(backwards=True, steps=1000, noise=0.3, warp=0.2)
        self.head_ = default if self.head is None else clone(self.head)
        level = len(self.stack_.levels) - 1 if self.features == "top" else 0
        self.net_ = EventNet(
            self.stack_,
            len(self.labels_) + 1,
            [level],
            "last",
            tune=self.head_.readout == "tune",
            hidden=self.head_.readout == "mlp",
            backwards=self.head_.backwards,
            dropout=self.head_.dropout,
            noise=self.head_.noise,
        )

    def predict(self, X: Any) -> list[list[Any]]:
        """The labels of each sequence: greedy (beam_width 0), or the best of a prefix beam search."""
        check_count("beam_width", self.beam_width, 0)
        cases = self._cases(X)
        readings = cases.readings(self.net_)
        found: list[list[Any]] = [[] for _ in readings]
        with torch.no_grad():
            for batch in batches([row[0].at for row in readings], 64):
                logs, counts = self.net_.events([readings[i] for i in batch])
                for b, i in enumerate(batch):
                    one: Array = logs[: int(counts[b]), b].numpy()
                    numbers = beam_search(one, self.beam_width) if self.beam_width else greedy(one)
                    found[i] = [self.labels_[k - 1] for k in numbers]
        return found

    def score(self, X: Any, y: Any) -> float:
        """1 less the label error rate of `predict`."""
        found = self.predict(X)
        return 1 - label_error_rate(found, check_targets(y, len(found)))


def check_targets(y: Any, count: int) -> list[Sequence[Hashable]]:
    """Targets as a list. Raises UsageError unless there are `count`, each a sequence of labels."""
    targets: list[Any] = [*as_rows(y, "targets")]
    if len(targets) != count:
        raise UsageError(f"{count} sequences but {len(targets)} targets; give one for each")
    for i, target in enumerate(targets):
        if not hasattr(target, "__len__") or not hasattr(target, "__iter__"):
            raise UsageError(f"target {i} is {target!r} and no sequence of labels; correct it")
    return [target if isinstance(target, str) else list(target) for target in targets]


def check_expressible(targets: Sequence[Sequence[Hashable]], counts: Sequence[int], of_what: str) -> None:
    """Raise UsageError if a target needs more events than there are: one for each label, and a blank between
    two that are equal (Graves et al. 2006, section 3.1).

    counts: of each sequence's events; of_what: what they are, and the remedy.
    """
    for i, (target, count) in enumerate(zip(targets, counts, strict=True)):
        needed = len(target) + sum(a == b for a, b in pairwise(target))
        if needed > count:
            raise UsageError(
                f"target {i} of {len(target)} labels needs {needed} events, but has {count} {of_what}"
            )


def greedy(logs: Array) -> list[int]:
    """The most probable label of every event (T, C), repetitions joined and blanks left out."""
    best = logs.argmax(1).tolist()
    return [k for i, k in enumerate(best) if k != BLANK and (i == 0 or best[i - 1] != k)]


def beam_search(logs: Array, width: int) -> list[int]:
    """The labelling whose probability, summed over alignments, is largest; `width` prefixes kept per event.

    logs: (T, C) natural logarithms, blank first. Graves 2012, section 7.5; Hannun et al. 2014.
    """
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -np.inf)}  # ends in blank, ends in label
    for row in logs.tolist():
        grown: dict[tuple[int, ...], tuple[float, float]] = {}

        def add(prefix: tuple[int, ...], blank: float, label: float, to: Any = grown) -> None:
            old = to.get(prefix, (-np.inf, -np.inf))
            to[prefix] = (np.logaddexp(old[0], blank), np.logaddexp(old[1], label))

        for prefix, (in_blank, in_label) in beams.items():
            both = float(np.logaddexp(in_blank, in_label))
            add(prefix, both + row[BLANK], -np.inf)
            if prefix:
                add(prefix, -np.inf, in_label + row[prefix[-1]])
            for k in range(1, len(row)):
                before = in_blank if prefix and prefix[-1] == k else both
                if before > -np.inf:
                    add((*prefix, k), -np.inf, before + row[k])
        kept = sorted(grown.items(), key=lambda item: -np.logaddexp(*item[1]))[:width]
        beams = dict(kept)
    best = max(beams.items(), key=lambda item: np.logaddexp(*item[1]))
    return list(best[0])


def label_error_rate(found: Sequence[Sequence[Hashable]], targets: Sequence[Sequence[Hashable]]) -> float:
    """Edits (insertions, deletions, substitutions) over the number of true labels."""
    edits = sum(edit_distance(a, b) for a, b in zip(found, targets, strict=True))
    return edits / max(sum(map(len, targets)), 1)


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and substitutions that make `b` of `a` (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
