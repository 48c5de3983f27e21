"""The classifier for aeon, which hands over arrays (n, channels, time), or a list of (channels, time)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from aeon.classification.base import BaseClassifier

from chunker.classification.estimators import HistoryClassifier
from chunker.classification.inputs import Array


class HistoryTimeSeriesClassifier(BaseClassifier):  # type: ignore[misc]  # aeon is untyped
    """HistoryClassifier over time series of equal or unequal length, in one or several channels.

    Parameters are those of chunker.classification.HistoryClassifier. Several channels and unequal lengths are
    read as they are, without padding.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "X_inner_type": ["np-list", "numpy3D"],
        "capability:multivariate": True,
        "capability:unequal_length": True,
        "python_dependencies": ["torch"],
        "non_deterministic": False,
        "algorithm_type": "deeplearning",
    }

    def __init__(
        self,
        levels: tuple[int, ...] = (64, 64),
        features: str = "all",
        steps: int = 300,
        head: str = "tune",
        head_steps: int = 400,
        per_case: bool = False,
        contexts: int = 2000,
        random_state: Any = None,
    ) -> None:
        self.levels = levels
        self.features = features
        self.steps = steps
        self.head = head
        self.head_steps = head_steps
        self.per_case = per_case
        self.contexts = contexts
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: Any, y: Any) -> HistoryTimeSeriesClassifier:
        self.model_ = HistoryClassifier(
            self.levels,
            features=self.features,
            steps=self.steps,
            head=self.head,
            head_steps=self.head_steps,
            per_case=self.per_case,
            contexts=self.contexts,
            kind="vectors",
            random_state=self.random_state,
        ).fit(_time_first(X), y)
        return self

    def _predict(self, X: Any) -> Array:
        return self.model_.predict(_time_first(X))

    def _predict_proba(self, X: Any) -> Array:
        return self.model_.predict_proba(_time_first(X))

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return {"levels": (4,), "steps": 2, "head_steps": 5, "contexts": 10}


def _time_first(X: Any) -> list[Array]:
    """A list of (time, channels)."""
    return [np.asarray(case, dtype=np.float64).T for case in X]
