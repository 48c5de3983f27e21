"""Supervised classification on the top level of a stack of history compressors (Schmidhuber 1992).

    inputs.py       what a user hands in, as symbols or as vectors
    heads.py        pooling and supervised heads on the levels' states
    convolutions.py 2-D convolutions over spectra
    contexts.py     hashed contexts of symbols, random convolutions of vectors
    linear.py       linear classifiers on those, and the weights of several classifiers
    ctc.py          unsegmented targets: connectionist temporal classification on the top level
    preparing.py    what the estimators for scikit-learn share
    estimators.py   HistoryClassifier
    transformer.py  HistoryTransformer
    aeon.py         the classifier for aeon
    labelled.py     labelled sequences in files
    speech.py       spectra of speech; speech as another speaker might have said it
    safefile.py     tensors and facts in one safe file, with a checksum
    storage.py      fitted classifiers, transformers and transcribers in such files

Needs torch (extra `[train]`), the estimators scikit-learn as well (extra `[sklearn]`). Importing this package
loads neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chunker.classification.ctc import HistoryTranscriber
    from chunker.classification.estimators import HistoryClassifier
    from chunker.classification.storage import load_classifier, load_estimator, save_classifier
    from chunker.classification.transformer import HistoryTransformer
    from chunker.learning.history import HistoryStack
    from chunker.learning.history_distillation import HistoryDistillConfig, distill_history

_HOMES = {
    "HistoryClassifier": "chunker.classification.estimators",
    "HistoryDistillConfig": "chunker.learning.history_distillation",
    "HistoryStack": "chunker.learning.history",
    "HistoryTranscriber": "chunker.classification.ctc",
    "HistoryTransformer": "chunker.classification.transformer",
    "distill_history": "chunker.learning.history_distillation",
    "load_classifier": "chunker.classification.storage",
    "load_estimator": "chunker.classification.storage",
    "save_classifier": "chunker.classification.storage",
}

__all__ = [
    "HistoryClassifier",
    "HistoryDistillConfig",
    "HistoryStack",
    "HistoryTranscriber",
    "HistoryTransformer",
    "distill_history",
    "load_classifier",
    "load_estimator",
    "save_classifier",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'chunker.classification' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
