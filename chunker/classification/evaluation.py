"""What a classifier is worth on labelled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from chunker.classification.estimators import HistoryClassifier
from chunker.classification.inputs import Array


@dataclass(frozen=True)
class Evaluation:
    """Figures of a classifier on cases that it did not learn from.

    macro_f1: mean over the classes that occur of 2 hits / (predicted + true). event_share: share of the
    inputs that reach the top level. classes: names, those that the classifier does not know included.
    confusion: (C, C) counts, true classes in rows and predicted ones in columns.
    """

    cases: int
    accuracy: float
    macro_f1: float
    event_share: float
    classes: list[str]
    confusion: Array


def evaluate(model: HistoryClassifier, sequences: Any, labels: Sequence[str]) -> Evaluation:
    """Compare predictions with labels, as strings; a class that the model does not know counts as wrong."""
    probabilities, share = model.evaluate(sequences)
    known = [str(name) for name in model.classes_]
    predicted = [known[i] for i in probabilities.argmax(1)]
    classes = sorted({*known, *labels})
    return Evaluation(
        len(labels),
        float(accuracy_score(labels, predicted)),
        float(f1_score(labels, predicted, labels=sorted(set(labels)), average="macro")),
        share,
        classes,
        confusion_matrix(labels, predicted, labels=classes),
    )
