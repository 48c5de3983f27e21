"""Unsegmented targets: connectionist temporal classification on a stack's level (Graves et al. 2006).

The net gives at every tick a distribution over the labels and "blank"; a labelling's probability is the sum
over all ways to spread it over the ticks. torch's `ctc_loss` trains it; decoding is greedy or by prefix beam search.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chunker.classification.heads import Head, HeadPlan, Reading, train_head
from chunker.classification.inputs import Array, Preparation, as_sequences
from chunker.config import GateRule
from chunker.errors import UsageError
from chunker.learning.history import History, HistoryStack, batches
from chunker.learning.pretraining import PretrainConfig, PretrainReport, pretrain

BLANK = 0


class TickHead(Head):
    """A head without pooling: log-probabilities (E, B, labels + 1) at every tick of one level, blank first."""

    def __init__(self, stack: HistoryStack, plan: HeadPlan, outputs: int) -> None:
        level = len(stack.levels) - 1 if plan.features == "top" else 0
        super().__init__(stack, plan, outputs, read=[level])
        total = stack.level(level).width * (2 if plan.backwards else 1)
        self.norm = nn.LayerNorm(total)
        self.out = nn.Sequential(nn.Linear(total, outputs))

    def ticks(self, rows: list[list[Reading]]) -> tuple[Tensor, Tensor]:
        """Log-probabilities (E, B, labels + 1), and the number of ticks of each row (B,)."""
        parts = self.states(rows)
        counts = parts[0][1].sum(0)
        states = [parts[0][0]]
        if len(parts) == 2:  # the backward copy's states in the order of time
            E, B, H = parts[1][0].shape
            where = (counts - 1 - torch.arange(E).unsqueeze(1)).clamp_min(0)
            states.append(parts[1][0].gather(0, where.unsqueeze(-1).expand(E, B, H)))
        logits = self.out(self.dropout(self.norm(torch.cat(states, -1))))
        return torch.log_softmax(logits, -1), counts


class HistoryTranscriber:
    """Sequences to sequences of labels, of unknown alignment.

    Parameters are those of HistoryClassifier; with features="top" only the events that reach the top level are
    seen, with "all" every input of the lowest level.

    Attributes
    ----------
    labels_: what targets are made of. stack_, growth_: as HistoryClassifier's. event_share_: share of the
    training inputs that the transcribing level received.
    """

    def __init__(
        self,
        levels: tuple[int, ...] = (64, 64),
        *,
        cell: str = "gru",
        kind: str = "auto",
        gate: str = "auto",
        threshold: float = 0.5,
        steps: int = 300,
        per_case: bool = True,
        deltas: bool = True,
        plan: HeadPlan | None = None,
        seed: int = 0,
    ) -> None:
        self.levels, self.cell, self.kind = levels, cell, kind
        self.gate, self.threshold, self.steps = gate, threshold, steps
        self.per_case, self.deltas, self.seed = per_case, deltas, seed
        self.plan = plan or HeadPlan(backwards=True, steps=1000, noise=0.3, warp=0.2)

    def fit(self, X: Any, targets: Sequence[Sequence[Hashable]]) -> HistoryTranscriber:
        """Pre-train on X, then learn the targets, one sequence of labels (or a string) for each.

        Raises
        ------
        UsageError: numbers of sequences and targets differ. TrainingError: the loss is no longer finite.
        """
        kind, raw = as_sequences(X, self.kind)
        if len(raw) != len(targets):
            raise UsageError(f"{len(raw)} sequences but {len(targets)} targets; give one for each")
        self.preparation_ = Preparation.learn(kind, raw, self.per_case, self.deltas)
        sequences = self.preparation_.apply(raw)
        self.labels_: list[Any] = sorted({label for target in targets for label in target}, key=str)
        numbers = {label: i + 1 for i, label in enumerate(self.labels_)}
        lengths = torch.tensor([len(target) for target in targets])
        padded = torch.zeros(len(targets), max(int(lengths.max()), 1), dtype=torch.int64)
        for i, target in enumerate(targets):
            padded[i, : len(target)] = torch.tensor([numbers[label] for label in target])
        random = np.random.default_rng(self.seed)
        observation = self.preparation_.observation
        automatic = GateRule("surprise", 1.0) if observation.is_symbols else GateRule("rate", self.threshold)
        gate = automatic if self.gate == "auto" else GateRule(self.gate, self.threshold)
        self.growth_: list[PretrainReport]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            config = PretrainConfig(levels=self.levels, steps=self.steps)
            self.stack_, self.growth_ = pretrain(observation, sequences, config, gate, self.cell, random)
            self.head_ = head = TickHead(self.stack_, self.plan, len(self.labels_) + 1)
            readings = self._readings(sequences, self.stack_.read(sequences))

            def loss(rows: list[list[Reading]], picked: Tensor) -> Tensor:
                logs, counts = head.ticks(rows)
                return nn.functional.ctc_loss(
                    logs, padded[picked], counts, lengths[picked], BLANK, zero_infinity=True
                )

            train_head(head, readings, loss, random)
        self.event_share_ = sum(len(r[0].at) for r in readings) / max(sum(map(len, sequences)), 1)
        return self

    def transcribe(self, X: Any, beam: int = 0) -> list[list[Any]]:
        """The labels of each sequence: greedy (beam 0), or the best of a prefix beam search of that width."""
        sequences = self.preparation_.apply(as_sequences(X, self.preparation_.kind)[1])
        readings = self._readings(sequences, self.stack_.read(sequences))
        found: list[list[Any]] = [[] for _ in sequences]
        with torch.no_grad():
            for batch in batches([row[0].at for row in readings], 64):
                logs, counts = self.head_.ticks([readings[i] for i in batch])
                for b, i in enumerate(batch):
                    one: Array = logs[: int(counts[b]), b].numpy()
                    numbers = beam_search(one, beam) if beam else greedy(one)
                    found[i] = [self.labels_[k - 1] for k in numbers]
        return found

    def _readings(self, sequences: list[Array], histories: list[History]) -> list[list[Reading]]:
        return [self.head_.readings(s, h) for s, h in zip(sequences, histories, strict=True)]


def greedy(logs: Array) -> list[int]:
    """The most probable label of every tick (T, C), repetitions joined and blanks left out."""
    best = logs.argmax(1).tolist()
    return [k for i, k in enumerate(best) if k != BLANK and (i == 0 or best[i - 1] != k)]


def beam_search(logs: Array, width: int) -> list[int]:
    """The labelling whose probability, summed over alignments, is largest among `width` prefixes kept a tick.

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
