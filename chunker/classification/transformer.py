"""HistoryTransformer: fixed-length features of sequences, learnt without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from chunker.classification.heads import Head, HeadPlan, pooled_features
from chunker.classification.inputs import Array
from chunker.classification.preparing import HistoryEstimator
from chunker.errors import UsageError


class HistoryTransformer(TransformerMixin, HistoryEstimator):  # type: ignore[misc]
    """Fixed-length features of sequences for scikit-learn's pipelines, learnt without labels.

    Parameters are those of HistoryClassifier. Features are the frozen states, pooled ("last", "mean", "max"), of
    the top level or of all, and behind them the logarithm of the number of events at each level.
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
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> HistoryTransformer:
        """Pre-train the stack on X; y is not used."""
        self._pretrain_config()  # what cannot be is refused before the stack is trained
        self.plan()
        if "attention" in self.pooling.split("+"):
            raise UsageError("attention is learnt from labels; choose pooling last, mean or max")
        sequences = self._sequences(X, fitting=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._pretrain(sequences, np.random.default_rng(seed))
            self.make_head()
        return self

    def make_head(self) -> None:
        """What pools the grown stack's states; it has nothing to learn."""
        self.head_ = Head(self.stack_, self.plan(), 1).eval().double().requires_grad_(False)

    def plan(self) -> HeadPlan:
        """The head's part of the parameters."""
        return HeadPlan(features=self.features, pooling=self.pooling, head="linear")

    def transform(self, X: Any) -> Array:
        """(n, F) features."""
        sequences, histories = self._read(X)
        readings = [self.head_.readings(s, h) for s, h in zip(sequences, histories, strict=True)]
        counts = np.log1p([[len(at) for at in history.levels] for history in histories])
        return np.concatenate([pooled_features(self.head_, readings).numpy(), counts], 1)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """(F,) names: level, pooling and unit; then events by level."""
        check_is_fitted(self, "stack_")
        names: list[str] = []
        for index in self.head_.read_levels:
            width = self.stack_.level(index).width
            for pooling in self.pooling.split("+"):
                names.extend(f"level{index}_{pooling}_{unit}" for unit in range(width))
        names.extend(f"log_events_{index}" for index in range(len(self.stack_.levels) + 1))
        return np.array(names, dtype=object)
