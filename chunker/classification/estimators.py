"""HistoryClassifier: a stack learns the sequences without labels, heads read its levels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin, clone
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array

from chunker.classification.heads import Cases, Head, RecurrentHead, Task
from chunker.classification.inputs import Array, as_rows, as_sequences, is_text
from chunker.classification.linear import NgramHead, RandomKernelHead, hold_out, pool_weights
from chunker.classification.preparing import HistoryEstimator
from chunker.errors import UsageError


@dataclass(eq=False, repr=False, kw_only=True)
class HistoryClassifier(ClassifierMixin, HistoryEstimator):  # type: ignore[misc]
    """Classify sequences by what a history compressor did not expect in them (Schmidhuber 1992).

    A stack is pre-trained without labels; each head then learns the labels from its events. The heads' scores
    are pooled: log p(c) = sum over heads of weight times score, plus a constant.

    Parameters
    ----------
    levels, cell, gate, steps, window, kind, per_case, deltas, features, random_state: of the stack and its
        inputs; see HistoryEstimator. gate="auto" is 1 bit for symbols and a quarter of the vectors.
    heads: a list of RecurrentHead, ConvolutionalHead, NgramHead or RandomKernelHead, untrained; None: a
        RecurrentHead, and for symbols an NgramHead, for vectors a RandomKernelHead. Their parameters are
        reached as `heads__0__steps`. All weigh the same, unless there is an NgramHead and enough cases to
        hold some out, on which the weights are learnt.

    Attributes
    ----------
    classes_: (C,) labels. heads_: the trained heads. pool_: weights of their scores, in that order; an
    NgramHead may have two, of support vectors and of naive Bayes. stack_: the stack. growth_: a report for
    each level.
    event_share_: share of the training inputs that reached the top level.
    """

    heads: Sequence[Head] | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters; deep: with the heads as `heads__0` and their own as `heads__0__steps`."""
        found: dict[str, Any] = super().get_params(deep)
        if deep and isinstance(self.heads, list | tuple):
            for i, head in enumerate(self.heads):
                found[f"heads__{i}"] = head
                inner = head.get_params() if isinstance(head, Head) else {}
                found |= {f"heads__{i}__{name}": value for name, value in inner.items()}
        return found

    def set_params(self, **params: Any) -> HistoryClassifier:
        """Set parameters, of heads by the names of `get_params`. Raises ValueError for unknown names."""
        nested = {name: params.pop(name) for name in [*params] if name.startswith("heads__")}
        super().set_params(**params)
        for name in sorted(nested, key=lambda name: name.count("__")):  # whole heads before their parameters
            if name not in self.get_params():
                raise ValueError(f"Invalid parameter {name!r} for estimator {self}; give heads a list first")
            _, number, *inner = name.split("__", 2)
            heads = [*(self.heads or ())]
            if inner:
                heads[int(number)].set_params(**{inner[0]: nested[name]})
            else:
                heads[int(number)] = nested[name]
                self.heads = heads
        return self

    def fit(self, X: Any, y: Any, unlabelled: Any = None) -> HistoryClassifier:
        """Pre-train on X and, if given, on further sequences `unlabelled`; then train the heads.

        Raises
        ------
        UsageError: sequences or parameters that cannot be used. TrainingError: a loss is no longer finite.
        """
        self._check()
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        sequences = self._sequences(X, fitting=True)
        labels = self._labels(y, len(sequences))
        heads = self._new_heads(self.preparation_.kind)
        more: list[Array] = []
        if unlabelled is not None:
            kind, raw = as_sequences(unlabelled, self.preparation_.kind)
            if kind == "symbols":  # the alphabet is that of all sequences
                own = as_sequences(X, kind)[1]
                everything = self._prepare(kind, own + raw, is_text(X))
                sequences, more = everything[: len(own)], everything[len(own) :]
            else:
                more = self.preparation_.apply(raw)
        with self._seeded() as (seed, random):
            self._pretrain([*sequences, *more], random)
            cases = Cases(sequences, self.stack_.read(sequences), labels)
            self.event_share_ = cases.event_share
            held = np.zeros(len(labels), bool)
            if any(isinstance(head, NgramHead) for head in heads):
                held = hold_out(labels, len(self.classes_), random)
            scores = [part for head in heads for part in head.fit(self.task(seed), cases, held, random)]
        self.heads_ = heads
        equal = (1 / len(heads),) * len(heads)
        self.pool_ = pool_weights(scores, labels[held]) if held.any() else equal
        return self

    def _check(self) -> None:
        super()._check()
        if self.heads is None:
            return
        if not isinstance(self.heads, list | tuple) or not all(isinstance(head, Head) for head in self.heads):
            raise UsageError(f"heads must be a list of heads, such as [RecurrentHead()], not {self.heads!r}")
        if not self.heads:
            raise UsageError("heads is empty, so no classifier is left; give at least one head")
        for head in self.heads:
            head.check()

    def _new_heads(self, kind: str) -> list[Head]:
        heads = self.heads
        if heads is None:
            heads = [RecurrentHead(), NgramHead() if kind == "symbols" else RandomKernelHead()]
        for head in heads:
            head.check_inputs(kind)
        return [clone(head) for head in heads]

    def task(self, seed: int = 0) -> Task:
        """What the heads have to tell apart."""
        return Task(self.stack_, self.preparation_, self.features, len(self.classes_), seed)

    def _labels(self, y: Any, count: int) -> Array:
        as_rows(y, "labels")  # refuses what has no positions
        y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
        if y.ndim == 2 and y.shape[1] == 1:
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

    def predict_log_proba(self, X: Any) -> Array:
        """(n, C) natural logarithms of the classes' probabilities."""
        return self._log_probabilities(self._cases(X))

    def _log_probabilities(self, cases: Cases) -> Array:
        parts = [part for head in self.heads_ for part in head.scores(cases)]
        pooled = np.sum([w * part for w, part in zip(self.pool_, parts, strict=True)], 0)
        return np.asarray(torch.log_softmax(torch.from_numpy(pooled), -1).numpy())

    def predict_proba(self, X: Any) -> Array:
        """(n, C) probabilities of the classes, in the order of `classes_`."""
        return self.evaluate(X)[0]

    def predict(self, X: Any) -> Array:
        """(n,) the most probable classes."""
        chosen = self.predict_log_proba(X).argmax(1)
        return np.asarray(self.classes_[chosen])

    def evaluate(self, X: Any) -> tuple[Array, float]:
        """`predict_proba` and `event_share` at the price of one reading."""
        cases = self._cases(X)
        probabilities = np.exp(self._log_probabilities(cases))
        return np.asarray(probabilities / probabilities.sum(1, keepdims=True)), cases.event_share
