"""Fitted classifiers, transformers and transcribers in safe files.

The facts hold parameters, classes, preparation, and the shape of everything; the tensors are named `stack.I.NAME`,
`head.M.NAME`, `convolutions.M.NAME`, `linear.NAME`, `contexts.NAME`, `bayes.NAME`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chunker.classification import safefile
from chunker.classification.contexts import ContextCounts, RandomKernels
from chunker.classification.ctc import HistoryTranscriber, TickHead
from chunker.classification.estimators import HistoryClassifier
from chunker.classification.heads import CaseHead, HeadPlan
from chunker.classification.inputs import Array, Preparation
from chunker.classification.linear import LinearModel, NaiveBayes
from chunker.classification.transformer import HistoryTransformer
from chunker.errors import NotAModel, UsageError
from chunker.learning.history import HistoryStack
from chunker.learning.pretraining import PretrainReport

PARAMETER_TYPES = (bool, int, float, str, type(None))
TRANSCRIBER_PARAMETERS = (
    "levels", "cell", "kind", "gate", "threshold", "steps", "per_case", "deltas", "seed",
)  # fmt: skip
Saved = HistoryClassifier | HistoryTransformer | HistoryTranscriber


def save_classifier(path: str | os.PathLike[str], model: Saved) -> None:
    """Write a fitted classifier, transformer or transcriber, whole or not at all.

    Raises
    ------
    OSError: the folder cannot be written to. UsageError: not fitted; classes or labels are neither numbers nor
    strings.
    """
    if not hasattr(model, "stack_"):
        raise UsageError(
            f"a {type(model).__name__} that is not fitted cannot be saved; call fit, give the path first"
        )
    fields, tensors = _stack_fields(model), _stack_tensors(model)
    if isinstance(model, HistoryClassifier):
        fields |= _classifier_fields(model)
        tensors |= _classifier_tensors(model)
    elif isinstance(model, HistoryTranscriber):
        fields |= _transcriber_fields(model)
        tensors |= _named("head.0.", model.head_)
    safefile.write(path, fields, tensors)


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
    """What `save_classifier` wrote, be it a classifier, a transformer or a transcriber; raises as `load_classifier`."""
    fields, tensors = safefile.read(path)
    try:
        if fields["what"] == "transformer":
            return _build_transformer(fields, tensors)
        if fields["what"] == "transcriber":
            return _build_transcriber(fields, tensors)
        return _build(fields, tensors)
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise NotAModel(f"{path}: the classifier cannot be read ({error}); fit it again") from error


def _stack_fields(model: Saved) -> dict[str, Any]:
    """What all have: preparation and stack."""
    fields: dict[str, Any] = {
        "what": type(model).__name__.removeprefix("History").lower(),
        "preparation": model.preparation_.to_json(),
        "stack": model.stack_.to_json(),
        "reports": [[r.width, r.share, _finite(r.bits), r.steps, r.threshold] for r in model.growth_],
    }
    if not isinstance(model, HistoryTranscriber):
        fields["parameters"] = _parameters(model)
        fields["features_in"] = getattr(model, "n_features_in_", None)
    return fields


def _parameters(model: HistoryClassifier | HistoryTransformer) -> dict[str, Any]:
    parameters: dict[str, Any] = model.get_params(deep=False)
    parameters["levels"] = [int(width) for width in model.levels]
    seed = parameters["random_state"]
    parameters["random_state"] = int(seed) if isinstance(seed, int | np.integer) else None
    for name, value in parameters.items():
        if name != "levels" and not isinstance(value, PARAMETER_TYPES):
            parameters[name] = value.item() if hasattr(value, "item") else str(value)
    return parameters


def _classifier_fields(model: HistoryClassifier) -> dict[str, Any]:
    if model.classes_.dtype.kind not in "biufUO":
        raise UsageError("classes are neither numbers nor strings, so they cannot be saved; rename them")
    contexts = model.contexts_
    return {
        "classes": [c.item() if hasattr(c, "item") else c for c in model.classes_],
        "event_share": float(model.event_share_),
        "linear": None if model.linear_ is None else float(model.linear_.sharpness),
        "pool": list(model.pool_),
        "dilations": [d for d, _, _ in contexts.groups] if isinstance(contexts, RandomKernels) else None,
    }


def _transcriber_fields(model: HistoryTranscriber) -> dict[str, Any]:
    if not all(isinstance(label, int | float | str) for label in model.labels_):
        raise UsageError("labels are neither numbers nor strings, so they cannot be saved; rename them")
    parameters = {name: getattr(model, name) for name in TRANSCRIBER_PARAMETERS}
    parameters["levels"] = [int(width) for width in model.levels]
    return {
        "labels": model.labels_,
        "event_share": float(model.event_share_),
        "parameters": parameters,
        "plan": asdict(model.plan),
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _named(prefix: str, module: torch.nn.Module) -> dict[str, Array]:
    return {
        f"{prefix}{name}": np.asarray(value.numpy(), order="C") for name, value in module.state_dict().items()
    }


def _stack_tensors(model: Saved) -> dict[str, Array]:
    return _named("stack.", model.stack_.levels)


def _heads(model: HistoryClassifier) -> dict[str, CaseHead]:
    """All heads by what their tensors' names begin with."""
    kinds: dict[str, Sequence[CaseHead]] = {"head": model.heads_, "convolutions": model.convolutions_}
    return {f"{kind}.{i}.": head for kind, members in kinds.items() for i, head in enumerate(members)}


def _classifier_tensors(model: HistoryClassifier) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for prefix, head in _heads(model).items():
        found |= _named(prefix, head)
    if model.linear_ is not None:
        found["linear.bias"] = model.linear_.bias
        weights = model.linear_.weights
        if isinstance(model.contexts_, ContextCounts):  # buckets that training never met weigh nothing
            used = np.flatnonzero(model.contexts_.idf)
            found["contexts.used"], found["contexts.idf"] = used, model.contexts_.idf[used]
            weights = weights[used]
        found["linear.weights"] = np.ascontiguousarray(weights)
    if model.bayes_ is not None:
        counted = np.flatnonzero(model.bayes_.weights.any(1))
        found["bayes.used"], found["bayes.weights"] = counted, model.bayes_.weights[counted]
    if isinstance(model.contexts_, RandomKernels):
        for i, (_, kernel, biases) in enumerate(model.contexts_.groups):
            found[f"contexts.{i}.weights"], found[f"contexts.{i}.biases"] = kernel, biases
    return {name: np.asarray(tensor, order="C") for name, tensor in found.items()}


def _build_stack(fields: dict[str, Any], tensors: dict[str, Array]) -> HistoryStack:
    stack = HistoryStack.from_json(fields["stack"])
    stack.levels.load_state_dict(_part(tensors, "stack."))
    return stack


def _fill(model: Saved, fields: dict[str, Any], tensors: dict[str, Array]) -> None:
    """What all have."""
    model.preparation_ = Preparation.from_json(fields["preparation"])
    model.stack_ = _build_stack(fields, tensors)
    model.growth_ = [
        PretrainReport(w, s, float("nan") if b is None else b, n, t) for w, s, b, n, t in fields["reports"]
    ]
    if not isinstance(model, HistoryTranscriber) and fields["features_in"] is not None:
        model.n_features_in_ = int(fields["features_in"])


def _levels(parameters: dict[str, Any]) -> dict[str, Any]:
    return {**parameters, "levels": tuple(parameters["levels"])}


def _build_transformer(fields: dict[str, Any], tensors: dict[str, Array]) -> HistoryTransformer:
    model = HistoryTransformer(**_levels(fields["parameters"]))
    _fill(model, fields, tensors)
    model.make_head()
    return model


def _build_transcriber(fields: dict[str, Any], tensors: dict[str, Array]) -> HistoryTranscriber:
    plan = HeadPlan(**fields["plan"])
    model = HistoryTranscriber(**_levels(fields["parameters"]), plan=plan)
    _fill(model, fields, tensors)
    model.labels_ = list(fields["labels"])
    model.event_share_ = float(fields["event_share"])
    model.head_ = TickHead(model.stack_, plan, len(model.labels_) + 1)
    _restore(model.head_, tensors, "head.0.")
    return model


def _build(fields: dict[str, Any], tensors: dict[str, Array]) -> HistoryClassifier:
    model = HistoryClassifier(**_levels(fields["parameters"]))
    _fill(model, fields, tensors)
    model.classes_ = np.array(fields["classes"])
    model.event_share_ = float(fields["event_share"])
    model.heads_, model.convolutions_ = model.make_heads()
    for prefix, head in _heads(model).items():
        _restore(head, tensors, prefix)
    model.pool_ = tuple(float(weight) for weight in fields["pool"])
    model.bayes_ = None
    if "bayes.used" in tensors:
        model.bayes_ = NaiveBayes()
        rows = tensors["bayes.weights"]
        model.bayes_.weights = np.zeros((model.context_count(), rows.shape[1]), rows.dtype)
        model.bayes_.weights[tensors["bayes.used"]] = rows
    model.contexts_, model.linear_ = _second_classifier(fields, tensors, model)
    return model


def _second_classifier(
    fields: dict[str, Any], tensors: dict[str, Array], model: HistoryClassifier
) -> tuple[ContextCounts | RandomKernels | None, LinearModel | None]:
    if fields["linear"] is None:
        return None, None
    linear = LinearModel()
    linear.sharpness = float(fields["linear"])
    linear.bias, linear.weights = tensors["linear.bias"], tensors["linear.weights"]
    if fields["dilations"] is not None:
        kernels = RandomKernels(model.features, model.context_count())
        kernels.groups = [
            (int(d), tensors[f"contexts.{i}.weights"], tensors[f"contexts.{i}.biases"])
            for i, d in enumerate(fields["dilations"])
        ]
        return kernels, linear
    sizes = tuple(range(1, model.grams + 1))
    counts = ContextCounts(model.features, sizes, model.context_count(), model.preparation_.text)
    used = tensors["contexts.used"]
    counts.idf = np.zeros(counts.parts * counts.buckets)
    counts.idf[used] = tensors["contexts.idf"]
    weights = np.zeros((len(counts.idf), linear.weights.shape[1]), linear.weights.dtype)
    weights[used] = linear.weights
    linear.weights = weights
    return counts, linear


def _restore(head: CaseHead, tensors: dict[str, Array], prefix: str) -> None:
    """As `train_head` left it."""
    head.double().load_state_dict(_part(tensors, prefix))
    head.eval().requires_grad_(False)


def _part(tensors: dict[str, Array], prefix: str) -> dict[str, Tensor]:
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): torch.from_numpy(tensors[name].copy()) for name in names}
