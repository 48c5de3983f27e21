"""HistoryClassifier: a stack learns the sequences without labels, a small classifier reads its levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array

from chunker.classification.contexts import ContextCounts, RandomKernels
from chunker.classification.convolutions import ConvolutionalHead
from chunker.classification.heads import HEADS, CaseHead, Head, HeadPlan, Reading, classify, train_head
from chunker.classification.inputs import Array, Preparation, as_rows, as_sequences, is_text
from chunker.classification.linear import LinearModel, NaiveBayes, hold_out, pool_weights
from chunker.classification.preparing import HistoryEstimator, share_of
from chunker.errors import UsageError
from chunker.learning.config import check_count
from chunker.learning.history import History

CONTEXTS = 2**17  # buckets, of symbols
KERNELS = 2000  # of vectors


class HistoryClassifier(ClassifierMixin, HistoryEstimator):  # type: ignore[misc]
    """Classify sequences by what a history compressor did not expect in them (Schmidhuber 1992).

    Parameters
    ----------
    levels: hidden units of each level, lowest first.
    cell: "gru", "lstm" or "rnn".
    kind: "auto", "symbols" or "vectors"; see chunker.classification.inputs.
    gate, threshold: what goes up (chunker.config.GateRule): "rate", "surprise", "argmax" or
        "tolerance" with its value; "auto" is 1 bit for symbols and a quarter of the vectors.
    steps: gradient steps of pre-training a level at most; 0: none, the levels stay random.
    window: inputs that gradients of pre-training reach back.
    per_case, deltas: vectors are standardised case by case; changes are further channels.
    features: "all": the classifier sees the inputs of every level, the lowest level's included; the better one for
        short sequences. "top": only events that reach the top level, as the method says; for long time lags.
    pooling: of states over events: "last", "mean", "max", "attention", or several joined with "+".
    head: "linear" or "mlp" on frozen states; "tune" goes on training copies of the levels; "none": only
        `contexts` and `convolutions` classify.
    backwards: events are also read from the last to the first.
    batch: cases a step of the head; None: a fiftieth of the cases, 32 to 256.
    head_steps, rate, decay, dropout, noise, warp, smoothing: of training the head; see
        chunker.classification.heads.HeadPlan.
    convolutions: of vectors whose channels have an order, such as spectra: maps of the first layer of a net of 2-D
        convolutions over time and channels, read where the levels have events and trained as the head is
        (chunker.classification.convolutions), pooled evenly with it; 0: none.
    members: that many heads (and nets of convolutions) are trained from different seeds and their probabilities
        averaged.
    contexts: how many features a second, linear classifier gets; None: 2**17 for symbols, 2000 for vectors; 0:
        none. Symbols: buckets of hashed n-grams up to `grams`, of words and of what was unexpected, for
        support vectors and naive Bayes; the weights of head, support vectors and naive Bayes are learnt on cases held
        out (`pool_`), if these are 40 or more. Vectors: random convolutions, pooled evenly with the head. With
        features="top" all see the events only. These owe nothing to recurrent nets: what they carry alone is seen
        with head="none".
    grams: longest n-gram.
    random_state: None, a number, or numpy's generator. Same number, same machine: same classifier.

    Attributes
    ----------
    classes_: (C,) labels. pool_: weights of head, convolutions, support vectors and naive Bayes, as far as there are.
    stack_: the stack. growth_: a report for each level. event_share_: share of the training inputs that reached the
    top level.
    """

    def __init__(
        self,
        levels: tuple[int, ...] = (64, 64),
        *,
        cell: str = "gru",
        kind: str = "auto",
        gate: str = "auto",
        threshold: float = 0.25,
        steps: int = 300,
        window: int = 128,
        per_case: bool = False,
        deltas: bool = False,
        features: str = "all",
        pooling: str = "last+mean",
        head: str = "tune",
        backwards: bool = False,
        head_steps: int = 400,
        batch: int | None = None,
        rate: float = 3e-3,
        decay: float = 1e-2,
        dropout: float = 0.1,
        noise: float = 0.0,
        warp: float = 0.0,
        smoothing: float = 0.0,
        convolutions: int = 0,
        members: int = 1,
        contexts: int | None = None,
        grams: int = 5,
        random_state: Any = None,
    ) -> None:
        self.levels = levels
        self.cell = cell
        self.kind = kind
        self.gate = gate
        self.threshold = threshold
        self.steps = steps
        self.window = window
        self.per_case = per_case
        self.deltas = deltas
        self.features = features
        self.pooling = pooling
        self.head = head
        self.backwards = backwards
        self.head_steps = head_steps
        self.batch = batch
        self.rate = rate
        self.decay = decay
        self.dropout = dropout
        self.noise = noise
        self.warp = warp
        self.smoothing = smoothing
        self.convolutions = convolutions
        self.members = members
        self.contexts = contexts
        self.grams = grams
        self.random_state = random_state

    def fit(self, X: Any, y: Any, unlabelled: Any = None) -> HistoryClassifier:
        """Pre-train on X and, if given, on further sequences `unlabelled`; then train the classifier.

        Raises
        ------
        UsageError: sequences or parameters that cannot be used. TrainingError: a loss is no longer finite.
        """
        for name, least in (("convolutions", 0), ("members", 0), ("grams", 1)):
            check_count(name, getattr(self, name), least)
        if self.contexts is not None:
            check_count("contexts", self.contexts, 0)
        if self.head not in (*HEADS, "none"):
            raise UsageError(f"head {self.head!r} is not known; choose of {', '.join(HEADS)}, none")
        self._pretrain_config()  # what cannot be is refused before the stack is trained
        self.plan()
        trained = self.members > 0 and (self.head != "none" or self.convolutions != 0)
        if not trained and self.contexts == 0:
            raise UsageError(
                "no classifier is left; set contexts, or members with a head other than 'none' or with convolutions"
            )
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        sequences = self._sequences(X, fitting=True)
        labels = self._labels(y, len(sequences))
        more: list[Array] = []
        if unlabelled is not None:
            kind, raw = as_sequences(unlabelled, self.preparation_.kind)
            if kind == "symbols":  # the alphabet is that of all sequences
                own = as_sequences(X, kind)[1]
                self.preparation_ = Preparation.learn(kind, own + raw, False, False, is_text(X))
                sequences = self.preparation_.apply(own)
            more = self.preparation_.apply(raw)
        if self.convolutions:
            ConvolutionalHead.check(self.preparation_.observation, self.convolutions)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        random = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._pretrain([*sequences, *more], random)
            histories = self.stack_.read(sequences)
            self.event_share_ = share_of(sequences, histories)
            held = np.zeros(len(labels), bool)
            if self.contexts != 0 and self.preparation_.observation.is_symbols:
                held = hold_out(labels, len(self.classes_), random)
            free = np.flatnonzero(~held)
            mine, heard = [sequences[i] for i in free], [histories[i] for i in free]
            self.heads_, self.convolutions_ = self.make_heads(len(free))
            for head in (*self.heads_, *self.convolutions_):
                self._train_head(head, mine, heard, labels[free], random)
        self.contexts_: ContextCounts | RandomKernels | None = None
        self.linear_: LinearModel | None = None
        self.bayes_: NaiveBayes | None = None
        parts = bool(self.heads_) + bool(self.convolutions_) + (self.contexts != 0)
        self.pool_: tuple[float, ...] = (1 / parts,) * parts
        if self.contexts != 0:
            self._fit_contexts(sequences, histories, labels, held, random, seed)
        return self

    def _labels(self, y: Any, count: int) -> Array:
        as_rows(y, "labels")  # refuses what has no positions
        y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
        if y.ndim == 2 and y.shape[1] == 1:
            import warnings

            from sklearn.exceptions import DataConversionWarning

            warnings.warn(
                "A column-vector y was passed when a 1d array was expected. Please change the shape of y.",
                DataConversionWarning,
                stacklevel=3,
            )
            y = y.ravel()
        check_classification_targets(y)
        if len(y) != count:
            raise UsageError(f"{count} sequences but {len(y)} labels; give one label a sequence")
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UsageError("there is one class only; a classifier needs 2 classes or more")
        return np.asarray(labels.astype(np.int64))

    def context_count(self) -> int:
        """Of `contexts`, with the default put in."""
        if self.contexts is not None:
            return self.contexts
        return CONTEXTS if self.preparation_.observation.is_symbols else KERNELS

    def plan(self, cases: int = 0) -> HeadPlan:
        """The head's part of the parameters, for a training set of so many cases."""
        return HeadPlan(
            features=self.features,
            pooling=self.pooling,
            head="linear" if self.head == "none" else self.head,
            backwards=self.backwards,
            steps=self.head_steps,
            batch=min(max(cases // 50, 32), 256) if self.batch is None else self.batch,
            rate=self.rate,
            decay=self.decay,
            dropout=self.dropout,
            noise=self.noise,
            warp=self.warp,
            smoothing=self.smoothing,
        )

    def make_heads(self, cases: int = 0) -> tuple[list[Head], list[ConvolutionalHead]]:
        """Untrained heads on the levels and nets of convolutions, for a training set of so many cases."""
        levels = len(self.stack_.levels)
        plan, C = self.plan(cases), len(self.classes_)
        observation, planes = self.preparation_.observation, 2 if self.preparation_.deltas else 1
        heads, nets = [], []
        for _ in range(self.members):
            if self.head != "none":
                heads.append(Head(self.stack_, plan, C))
            if self.convolutions:
                nets.append(ConvolutionalHead(observation, plan, C, self.convolutions, planes, levels))
        return heads, nets

    @staticmethod
    def _train_head(
        head: CaseHead,
        sequences: list[Array],
        histories: list[History],
        labels: Array,
        random: np.random.Generator,
    ) -> None:
        readings = [head.readings(s, h) for s, h in zip(sequences, histories, strict=True)]
        targets = torch.from_numpy(labels)

        def loss(rows: list[list[Reading]], picked: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(
                head(rows), targets[picked], label_smoothing=head.plan.smoothing
            )

        train_head(head, readings, loss, random)

    def _fit_contexts(
        self,
        sequences: list[Array],
        histories: list[History],
        labels: Array,
        held: Array,
        random: np.random.Generator,
        seed: int,
    ) -> None:
        C = len(self.classes_)
        if not self.preparation_.observation.is_symbols:
            kernels = RandomKernels(self.features, self.context_count())
            features, self.contexts_ = kernels.fit(sequences, histories, random), kernels
            self.linear_ = LinearModel().fit(features, labels, C, seed)
            return
        sizes = tuple(range(1, self.grams + 1))
        self.contexts_ = ContextCounts(self.features, sizes, self.context_count(), self.preparation_.text)
        features, counts = self.contexts_.fit(sequences, histories)
        if not held.any():
            self.linear_ = LinearModel().fit(features, labels, C, seed)
            return
        own, rest = np.flatnonzero(~held), np.flatnonzero(held)
        scores: list[Array] = []
        if self.heads_:
            scores.append(
                mean_scores(self.heads_, [sequences[i] for i in rest], [histories[i] for i in rest])
            )
        scores.append(LinearModel().fit_plain(features[own], labels[own], C, seed).scores(features[rest]))
        scores.append(NaiveBayes().fit(counts[own], labels[own], C).scores(counts[rest]))
        self.pool_ = pool_weights(scores, labels[rest])
        self.linear_ = LinearModel().fit_plain(features, labels, C, seed)
        self.bayes_ = NaiveBayes().fit(counts, labels, C)

    def predict_log_proba(self, X: Any) -> Array:
        """(n, C) natural logarithms of the classes' probabilities."""
        sequences, histories = self._read(X)
        return self._log_probabilities(sequences, histories)

    def _log_probabilities(self, sequences: list[Array], histories: list[History]) -> Array:
        parts: list[Array] = []
        for members in (self.heads_, self.convolutions_):
            if members:
                parts.append(mean_scores(members, sequences, histories))
        if isinstance(self.contexts_, ContextCounts) and self.linear_ is not None:
            features, counts = self.contexts_.transform(sequences, histories)
            parts.append(
                self.linear_.log_probabilities(features)
                if self.bayes_ is None
                else self.linear_.scores(features)
            )
            if self.bayes_ is not None:
                parts.append(self.bayes_.scores(counts))
        elif self.contexts_ is not None and self.linear_ is not None:
            parts.append(self.linear_.log_probabilities(self.contexts_.transform(sequences, histories)))
        pooled = np.sum([w * part for w, part in zip(self.pool_, parts, strict=True)], 0)
        return np.asarray(torch.log_softmax(torch.from_numpy(pooled), -1).numpy())

    def predict_proba(self, X: Any) -> Array:
        """(n, C) probabilities of the classes, in the order of `classes_`."""
        probabilities = np.exp(self.predict_log_proba(X))
        return np.asarray(probabilities / probabilities.sum(1, keepdims=True))

    def predict(self, X: Any) -> Array:
        """(n,) the most probable classes."""
        chosen = self.predict_log_proba(X).argmax(1)
        return np.asarray(self.classes_[chosen])

    def evaluate(self, X: Any) -> tuple[Array, float]:
        """`predict` and `event_share` at the price of one reading."""
        sequences, histories = self._read(X)
        chosen = self._log_probabilities(sequences, histories).argmax(1)
        return np.asarray(self.classes_[chosen]), share_of(sequences, histories)


def mean_scores(members: Sequence[CaseHead], sequences: list[Array], histories: list[History]) -> Array:
    """(n, C) natural logarithms of the mean of what heads of one kind find probable."""
    readings = [members[0].readings(s, h) for s, h in zip(sequences, histories, strict=True)]
    every = torch.stack([classify(head, readings) for head in members])
    return np.asarray((torch.logsumexp(every, 0) - np.log(len(members))).numpy())
