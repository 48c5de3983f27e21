"""HistoryTransformer: fixed-length features of sequences, learnt without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from chunker.classification.heads import Task, check_pooling
from chunker.classification.inputs import Array
from chunker.classification.nets import RecurrentNet, pooled_features
from chunker.classification.preparing import HistoryEstimator
from chunker.errors import UsageError


@dataclass(eq=False, repr=False, kw_only=True)
class HistoryTransformer(TransformerMixin, HistoryEstimator):  # type: ignore[misc]
    """Fixed-length features of sequences for scikit-learn's pipelines, learnt without labels.

    Features are the frozen states, pooled over events, of the top level or of all, and behind them the
    natural logarithm of one more than the number of events at each level.

    Parameters
    ----------
    levels, cell, gate, steps, window, kind, per_case, deltas, features, random_state: of the stack and its
        inputs; see HistoryEstimator. gate="auto" is 1 bit for symbols and a quarter of the vectors.
    pooling: of states over events: "last", "mean", "max", or several joined with "+".

    Attributes
    ----------
    stack_: the stack. growth_: a report for each level.
    """

    pooling: str = "last+mean"

    def fit(self, X: Any, y: Any = None) -> HistoryTransformer:
        """Pre-train the stack on X; y is not used.

        Raises
        ------
        UsageError: sequences or parameters that cannot be used. TrainingError: the loss is no longer finite.
        """
        self._check()
        check_pooling(self.pooling)
        if "attention" in self.pooling.split("+"):
            raise UsageError("attention is learnt from labels; choose pooling last, mean or max")
        sequences = self._sequences(X, fitting=True)
        with self._seeded() as (_, random):
            self._pretrain(sequences, random)
            self.make_net()
        return self

    def make_net(self) -> None:
        """Make what pools the trained stack's states; it has nothing to learn."""
        read = Task(self.stack_, self.preparation_, self.features, 1).read_levels
        self.net_ = RecurrentNet(self.stack_, 1, read, self.pooling)
        self.net_.ready()

    def transform(self, X: Any) -> Array:
        """(n, F) features."""
        cases = self._cases(X)
        counts = np.log1p([[len(at) for at in history.levels] for history in cases.histories])
        return np.concatenate([pooled_features(self.net_, cases.readings(self.net_)), counts], 1)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """(F,) names: level, pooling and unit; then events by level."""
        check_is_fitted(self, "stack_")
        names: list[str] = []
        for index in self.net_.read_levels:
            width = self.stack_.level(index).width
            for pooling in self.pooling.split("+"):
                names.extend(f"level{index}_{pooling}_{unit}" for unit in range(width))
        names.extend(f"log_events_{index}" for index in range(len(self.stack_.levels) + 1))
        return np.array(names, dtype=object)
