"""What the scikit-learn estimators share: preparing sequences, growing the stack, reading."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from chunker.classification.inputs import Array, Preparation, as_sequences, is_ragged, is_text
from chunker.config import GateRule
from chunker.learning.history import History, HistoryStack
from chunker.learning.pretraining import PretrainConfig, PretrainReport, pretrain


class HistoryEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """What classifier and transformer share: preparing, growing, reading."""

    preparation_: Preparation
    stack_: HistoryStack
    growth_: list[PretrainReport]

    def _sequences(self, X: Any, fitting: bool) -> list[Array]:
        """Prepared sequences; arrays with two dimensions are validated by scikit-learn as any table."""
        shape = getattr(X, "shape", None)
        if shape is None and hasattr(X, "__array__"):
            X = np.asarray(X)
            shape = X.shape
        if shape is not None and not (len(shape) == 3 or is_ragged(X)):
            X = validate_data(self, X, reset=fitting, dtype="numeric")
        elif fitting:  # sequences of any length; of one length they pass for a table, and tables must fit it
            lengths = {len(row) for row in as_sequences(X, self.kind)[1]}
            if len(lengths) == 1:
                self.n_features_in_ = lengths.pop()
            elif hasattr(self, "n_features_in_"):
                del self.n_features_in_
        kind, sequences = as_sequences(X, self.kind if fitting else self.preparation_.kind)
        if fitting:
            self.preparation_ = Preparation.learn(kind, sequences, self.per_case, self.deltas, is_text(X))
        return self.preparation_.apply(sequences)

    def _pretrain_config(self) -> PretrainConfig:
        """The stack's part of the parameters."""
        return PretrainConfig(levels=self.levels, steps=self.steps, window=self.window)

    def _pretrain(self, sequences: list[Array], random: np.random.Generator) -> None:
        observation = self.preparation_.observation
        if self.gate == "auto":
            gate = GateRule("surprise", 1.0) if observation.is_symbols else GateRule("rate", 0.25)
        else:
            gate = GateRule(self.gate, self.threshold)
        self.stack_, self.growth_ = pretrain(
            observation, sequences, self._pretrain_config(), gate, self.cell, random
        )

    def _read(self, X: Any) -> tuple[list[Array], list[History]]:
        check_is_fitted(self, "stack_")
        sequences = self._sequences(X, fitting=False)
        return sequences, self.stack_.read(sequences)

    def event_share(self, X: Any) -> float:
        """The share of the inputs that reach the top level."""
        sequences, histories = self._read(X)
        return share_of(sequences, histories)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.three_d_array = True
        tags.non_deterministic = False
        return tags


def share_of(sequences: list[Array], histories: list[History]) -> float:
    """Events that reach the top level, by inputs."""
    total = sum(map(len, sequences))
    return sum(len(history.top) for history in histories) / total if total else 0.0
