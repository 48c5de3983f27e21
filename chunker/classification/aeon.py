"""The classifier for aeon, which hands over arrays (n, channels, time), or a list of (channels, time)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from aeon.classification.base import BaseClassifier

from chunker.classification.estimators import HistoryClassifier
from chunker.classification.heads import Head, RecurrentHead
from chunker.classification.inputs import Array
from chunker.classification.linear import RandomKernelHead


class HistoryTimeSeriesClassifier(BaseClassifier):  # type: ignore[misc]  # aeon is untyped
    """HistoryClassifier over time series of equal or unequal length, in one or several channels.

    Parameters are those of HistoryClassifier. Several channels and unequal lengths are read as they are,
    without padding.
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
        per_case: bool = False,
        heads: list[Head] | None = None,
        random_state: Any = None,
    ) -> None:
        self.levels = levels
        self.features = features
        self.steps = steps
        self.per_case = per_case
        self.heads = heads
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: Any, y: Any) -> HistoryTimeSeriesClassifier:
        model = HistoryClassifier(kind="vectors").set_params(**self.get_params(deep=False))
        self.model_ = model.fit(_time_first(X), y)
        return self

    def _predict(self, X: Any) -> Array:
        return self.model_.predict(_time_first(X))

    def _predict_proba(self, X: Any) -> Array:
        return self.model_.predict_proba(_time_first(X))

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return {"levels": (4,), "steps": 2, "heads": [RecurrentHead(steps=5), RandomKernelHead(kernels=10)]}


def _time_first(X: Any) -> list[Array]:
    """A list of (time, channels)."""
    return [np.asarray(case, dtype=np.float64).T for case in X]
