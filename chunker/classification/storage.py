"""Fitted classifiers, transformers and transcribers in safe files.

The facts hold parameters, classes, preparation, and the shape of everything; the tensors are named
`stack.I.NAME`, and `head.I.NAME` for what head I says in its `saved`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from chunker.classification import safefile
from chunker.classification.convolutions import ConvolutionalHead
from chunker.classification.ctc import HistoryTranscriber
from chunker.classification.estimators import HistoryClassifier
from chunker.classification.heads import Head, RecurrentHead, load_net, net_tensors
from chunker.classification.inputs import Array, Preparation
from chunker.classification.linear import NgramHead, RandomKernelHead
from chunker.classification.transformer import HistoryTransformer
from chunker.config import GateRule
from chunker.errors import NotAModel, UsageError
from chunker.learning.claims import check_fits
from chunker.learning.history import HistoryStack
from chunker.learning.pretraining import PretrainReport

Saved = HistoryClassifier | HistoryTransformer | HistoryTranscriber
ESTIMATORS: dict[str, type[Saved]] = {
    found.__name__: found for found in (HistoryClassifier, HistoryTransformer, HistoryTranscriber)
}
HEADS: dict[str, type[Head]] = {
    found.__name__: found for found in (RecurrentHead, ConvolutionalHead, NgramHead, RandomKernelHead)
}


def save_classifier(path: str | os.PathLike[str], model: Saved) -> None:
    """Write a fitted classifier, transformer or transcriber, whole or not at all.

    Raises
    ------
    OSError: the folder cannot be written to. UsageError: not fitted; classes or labels are neither numbers
    nor strings.
    """
    if not hasattr(model, "stack_"):
        raise UsageError(
            f"a {type(model).__name__} that is not fitted cannot be saved; call fit, give the path first"
        )
    fields: dict[str, Any] = {
        "what": type(model).__name__,
        "parameters": _parameters(model),
        "preparation": model.preparation_.to_json(),
        "stack": model.stack_.to_json(),
        "reports": [[r.width, r.share, _finite(r.bits), r.steps, r.threshold] for r in model.growth_],
        "inputs": {
            "n_features_in_": getattr(model, "n_features_in_", None),
            "feature_names_in_": [*getattr(model, "feature_names_in_", ())] or None,
        },
    }
    tensors = net_tensors(model.stack_.levels, "stack.")
    if isinstance(model, HistoryClassifier):
        if model.classes_.dtype.kind not in "biufUO":
            raise UsageError("classes are neither numbers nor strings, so they cannot be saved; rename them")
        fields["classes"] = [c.item() if hasattr(c, "item") else c for c in model.classes_]
        fields |= {"event_share": float(model.event_share_), "pool": list(model.pool_)}
        fields |= {"heads": [], "default_heads": model.heads is None}
        for i, head in enumerate(model.heads_):
            facts, learnt = head.saved()
            fields["heads"].append([type(head).__name__, _parameters(head), facts])
            tensors |= {f"head.{i}.{name}": tensor for name, tensor in learnt.items()}
    elif isinstance(model, HistoryTranscriber):
        if not all(isinstance(label, int | float | str) for label in model.labels_):
            raise UsageError("labels are neither numbers nor strings, so they cannot be saved; rename them")
        fields |= {"labels": model.labels_, "event_share": float(model.event_share_)}
        fields["head"] = None if model.head is None else _parameters(model.head)
        tensors |= net_tensors(model.net_, "head.")
    safefile.write(path, fields, {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()})


def load_classifier(path: str | os.PathLike[str]) -> HistoryClassifier:
    """The classifier that `save_classifier` wrote, which predicts the same.

    Raises
    ------
    ModelNotFound: there is no such file. NotAModel: cut, damaged, or something else. ModelVersionError: of
    another version.
    """
    model = load_estimator(path)
    if not isinstance(model, HistoryClassifier):
        raise NotAModel(f"{path} holds no classifier but a {type(model).__name__}; use load_estimator")
    return model


def load_estimator(path: str | os.PathLike[str]) -> Saved:
    """What `save_classifier` wrote, of whatever class; raises as `load_classifier`."""
    fields, tensors = safefile.read(path)
    try:
        return _build(fields, tensors)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, RuntimeError, UsageError) as error:
        raise NotAModel(f"{path}: the classifier cannot be read ({error}); fit it again") from error


def _parameters(model: Saved | Head) -> dict[str, Any]:
    """As JSON, without heads; of a random state only a number."""
    found: dict[str, Any] = {}
    for name, value in model.get_params(deep=False).items():
        if name in ("heads", "head"):
            continue
        if isinstance(value, GateRule):
            value = [value.rule, value.value]
        elif name == "levels":
            value = [int(width) for width in value]
        elif name == "random_state" and not isinstance(value, int | np.integer):
            value = None
        found[name] = value.item() if hasattr(value, "item") else value
    return found


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _build(fields: Mapping[str, Any], tensors: Mapping[str, Array]) -> Saved:
    if len(fields["stack"]["widths"]) > len(tensors):
        raise ValueError("there are more levels than tensors")
    check_fits(lambda: HistoryStack.from_json(fields["stack"]).levels, tensors.values())
    parameters = dict(fields["parameters"])
    gate = parameters["gate"]
    parameters |= {
        "levels": tuple(parameters["levels"]),
        "gate": gate if isinstance(gate, str) else GateRule(*gate),
    }
    model = ESTIMATORS[fields["what"]](**parameters)
    model.preparation_ = Preparation.from_json(fields["preparation"])
    model.stack_ = HistoryStack.from_json(fields["stack"])
    load_net(model.stack_.levels, tensors, "stack.")
    model.growth_ = [
        PretrainReport(w, s, float("nan") if b is None else b, n, t) for w, s, b, n, t in fields["reports"]
    ]
    inputs = fields["inputs"]
    if inputs["n_features_in_"] is not None:
        model.n_features_in_ = int(inputs["n_features_in_"])
    if inputs["feature_names_in_"] is not None:
        model.feature_names_in_ = np.array(inputs["feature_names_in_"], dtype=object)
    if isinstance(model, HistoryTransformer):
        model.make_net()
        return model
    model.event_share_ = float(fields["event_share"])
    if isinstance(model, HistoryTranscriber):
        model.labels_ = list(fields["labels"])
        if fields["head"] is not None:
            model.head = RecurrentHead(**fields["head"])
        model.make_net()
        load_net(model.net_, tensors, "head.")
        return model
    model.classes_ = np.array(fields["classes"])
    model.pool_ = tuple(float(weight) for weight in fields["pool"])
    model.heads_ = []
    for i, (name, settings, facts) in enumerate(fields["heads"]):
        head, prefix = HEADS[name](**settings), f"head.{i}."
        head.check()
        own = {k.removeprefix(prefix): tensor for k, tensor in tensors.items() if k.startswith(prefix)}
        head.restore(model.task(), facts, own)
        model.heads_.append(head)
    if not fields["default_heads"]:
        model.heads = [clone(head) for head in model.heads_]
    return model
