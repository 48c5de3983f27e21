"""Supervised classification on the top level of a stack of history compressors (Schmidhuber 1992).

    inputs.py       what a user hands in, as symbols or as vectors
    nets.py         nets that read events: padding, pooling, copies of the stack's levels
    heads.py        what a classifier's heads share; RecurrentHead
    convolutions.py ConvolutionalHead: 2-D convolutions over spectra
    contexts.py     hashed contexts of symbols, random convolutions of vectors
    linear.py       NgramHead and RandomKernelHead: linear models of those; the weights of all heads
    ctc.py          HistoryTranscriber: connectionist temporal classification on the top level
    preparing.py    what the estimators for scikit-learn share
    events.py       which inputs of a case reached which level
    estimators.py   HistoryClassifier
    transformer.py  HistoryTransformer
    evaluation.py   accuracy, macro F1 and confusion of a classifier
    aeon.py         the classifier for aeon
    labelled.py     labelled sequences in files
    speech.py       spectra of speech; speech as another speaker might have said it
    safefile.py     tensors and facts in one safe file, with a checksum
    storage.py      fitted classifiers, transformers and transcribers in such files

Needs torch and scikit-learn (extra `[sklearn]`). Importing this package loads neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chunker.classification.convolutions import ConvolutionalHead
    from chunker.classification.ctc import HistoryTranscriber
    from chunker.classification.estimators import HistoryClassifier
    from chunker.classification.heads import RecurrentHead
    from chunker.classification.linear import NgramHead, RandomKernelHead
    from chunker.classification.storage import load_classifier, load_estimator, save_classifier
    from chunker.classification.transformer import HistoryTransformer
    from chunker.learning.history import HistoryStack
    from chunker.learning.history_distillation import HistoryDistillConfig, distill_history

_HOMES = {
    "ConvolutionalHead": "chunker.classification.convolutions",
    "HistoryClassifier": "chunker.classification.estimators",
    "HistoryDistillConfig": "chunker.learning.history_distillation",
    "HistoryStack": "chunker.learning.history",
    "HistoryTranscriber": "chunker.classification.ctc",
    "HistoryTransformer": "chunker.classification.transformer",
    "NgramHead": "chunker.classification.linear",
    "RandomKernelHead": "chunker.classification.linear",
    "RecurrentHead": "chunker.classification.heads",
    "distill_history": "chunker.learning.history_distillation",
    "load_classifier": "chunker.classification.storage",
    "load_estimator": "chunker.classification.storage",
    "save_classifier": "chunker.classification.storage",
}

__all__ = [
    "ConvolutionalHead",
    "HistoryClassifier",
    "HistoryDistillConfig",
    "HistoryStack",
    "HistoryTranscriber",
    "HistoryTransformer",
    "NgramHead",
    "RandomKernelHead",
    "RecurrentHead",
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
